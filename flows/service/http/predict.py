"""One request from its body to its answer: parse, score, spool, render. Runs on any thread."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from flows.errors import ContractBroken
from flows.service.http import inference, invocations
from flows.service.models.model import ServedModel
from flows.service.models.rows import Rows
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.predictions.spool import Spool

ProtocolName = Literal["infer", "invocations"]
_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the path and the headers say: the protocol, the model asked for, the caller's id."""

    protocol: ProtocolName
    model: str | None = None
    version: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class PredictionAnswer:
    """The answer's bytes, and what the log and a shadow need to know of it."""

    body: bytes
    request_id: str
    model: ServedModel
    loaded: LoadedIndex
    rows: Rows
    scores: list[float]


def read_json(body: bytes) -> dict[str, Any]:
    """The request's object. Strict: no NaN, no infinities, at most 1,024 levels.

    Raises: ContractBroken.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ContractBroken(
            f"the body is not JSON: {error}",
            rule="json",
            remedy="send one JSON object in UTF-8; write a missing number as null, not NaN",
        ) from None
    if not isinstance(document, dict):
        raise ContractBroken("the body is not a JSON object", rule="json")
    return document


class Predictor:
    """Answers requests from what serves; every row is in the spool before `answer` returns."""

    def __init__(self, serving: ServingState, spool: Spool, *, max_rows: int) -> None:
        self._serving, self._spool, self._max_rows = serving, spool, max_rows

    def answer(self, body: bytes, head: RequestHead, *, inline: bool) -> PredictionAnswer:
        """The answer to one request; `inline` means on the event loop.

        Raises: ContractBroken for what the caller has to correct, and before the first release.
        """
        loaded = self.require_loaded()
        document = read_json(body)
        request_id = _choose_request_id(head, document)
        model = _choose_model(loaded, head, request_id)
        rows, echoed = self._parse(document, head, model)
        scores = model.score(rows.features, inline=inline)
        self._append(rows, scores, model, request_id)
        rendered = _render(scores, head, model, request_id, echoed)
        return PredictionAnswer(orjson.dumps(rendered), request_id, model, loaded, rows, scores)

    def require_loaded(self) -> LoadedIndex:
        """What serves. Raises: ContractBroken before the first verified release."""
        loaded = self._serving.loaded
        if loaded is None:
            refusal = self._serving.refusal
            raise ContractBroken(
                "no verified release is loaded"
                + (f": {refusal.release} was refused at {refusal.step}" if refusal else ""),
                rule="not_ready",
                code="service.not_ready",
                remedy="try again soon; GET /status says what is missing",
            )
        return loaded

    def _parse(
        self, document: dict[str, Any], head: RequestHead, model: ServedModel
    ) -> tuple[Rows, str | None]:
        if head.protocol == "infer":
            return inference.parse(document, model.signature, max_rows=self._max_rows)
        return invocations.parse(document, model.signature, max_rows=self._max_rows), None

    def _append(self, rows: Rows, scores: list[float], model: ServedModel, request_id: str) -> None:
        now = time.time_ns() // 1000
        key = model.signature.key
        lines = [
            orjson.dumps(
                {
                    "request_id": request_id,
                    key: rows.keys[i],
                    "at": now if (at := rows.at_us[i]) is None else at,
                    "predicted_at": now,
                    "release": model.release,
                    "score": score,
                    **rows.features[i],
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for i, score in enumerate(scores)
        ]
        self._spool.append(b"".join(lines), rows=len(lines), columns=model.columns)


def measure_shadow(answer: PredictionAnswer) -> list[float]:
    """How far the shadow's scores are from those that were answered; empty if it cannot say."""
    shadow = answer.loaded.shadow
    if shadow is None or shadow.signature.expected != answer.model.signature.expected:
        return []
    scores = shadow.score(answer.rows.features, inline=False)
    return [abs(one - other) for one, other in zip(scores, answer.scores, strict=True)]


def _choose_request_id(head: RequestHead, document: dict[str, Any]) -> str:
    given = head.request_id
    if given is None and head.protocol == "infer" and isinstance(document.get("id"), str):
        given = document["id"]
    if given is None:
        return secrets.token_hex(16)
    if not _ID.fullmatch(given):
        raise ContractBroken(
            "the request's id is not 1 to 128 visible ASCII characters",
            rule="request_id",
            column="request_id",
        )
    return given


def _choose_model(loaded: LoadedIndex, head: RequestHead, request_id: str) -> ServedModel:
    if head.model is None or (head.version is None and head.model == loaded.champion.name):
        return loaded.choose(request_id)
    found = loaded.find(head.model, head.version) if head.version else None
    if found is None:
        raise refuse_model(loaded)
    return found


def refuse_model(loaded: LoadedIndex) -> ContractBroken:
    """The refusal of a model or version that does not serve here."""
    return ContractBroken(
        "this service does not serve that model or version",
        rule="model_unknown",
        code="service.model_unknown",
        remedy=f"it serves {loaded.champion.release}",
    )


def _render(
    scores: list[float], head: RequestHead, model: ServedModel, request_id: str, echoed: str | None
) -> dict[str, Any]:
    if head.protocol == "invocations":
        return invocations.render(scores, release=model.release, id=request_id)
    return inference.render(
        scores,
        model=model.name,
        version=model.version,
        release=model.release,
        id=request_id if echoed is None else echoed,
    )
