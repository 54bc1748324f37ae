"""A verified release in memory: what scores the rows of a request."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import orjson

from flows.arrays import Floats32
from flows.errors import ContractBroken, Misconfigured
from flows.learn.exported import INPUT, PROBABILITIES, Encoding
from flows.service.models.encode import Encoder
from flows.service.models.rows import ModelSignature, Value, take_rows
from flows.service.predictions.segments import Columns
from flows.tables import list_prediction_columns
from security.release.index import NamedRelease

MAX_EXAMPLE_ROWS = 1000


class Session(Protocol):
    """An onnxruntime session, as far as it is used here."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Floats32], /) -> Sequence[Floats32]:
        """The outputs by name."""
        ...


class ServedModel:
    """One verified release: signature, encoders and session.

    There is an encoder for the event loop and one for the batch thread, because an encoder
    counts unknown categories without a lock. `columns` is what the spool calls the columns of
    its rows; the spool gives it before the model serves.
    """

    def __init__(
        self, reference: NamedRelease, encoding: Encoding, *, key: str, session: Session
    ) -> None:
        self.name, self.version, self.digest = reference.model, reference.version, reference.digest
        self.release = f"{reference.model}/{reference.version}"
        self.signature = ModelSignature.of(encoding, key=key)
        self.columns = ""
        self._session = session
        self._inline, self._batch = Encoder(encoding), Encoder(encoding)

    def score(self, rows: Sequence[Mapping[str, Value]], *, inline: bool) -> list[float]:
        """Probabilities of the positive class; `inline` means on the event loop.

        Raises: ContractBroken for a value of the wrong kind or beyond float32.
        """
        matrix = self._encode(rows, self._inline if inline else self._batch)
        scores: list[float] = self._session.run([PROBABILITIES], {INPUT: matrix})[0][:, 1].tolist()
        return scores

    def warm_up(self, example: bytes) -> None:
        """Score the release's own example, as both kinds of request will be.

        Raises: Misconfigured if an answer is no probability; ContractBroken if the example does
        not have the release's own features.
        """
        rows = take_rows(orjson.loads(example), self.signature, max_rows=MAX_EXAMPLE_ROWS).features
        for inline in (True, False):
            scores = self.score(rows, inline=inline)
            if len(scores) != len(rows) or not all(
                math.isfinite(score) and 0 <= score <= 1 for score in scores
            ):
                raise Misconfigured("the model's answer to its own example is no probability")

    def count_unknown_categories(self) -> dict[str, int]:
        """Values that fitting never saw, by feature, since the release was loaded."""
        return {
            name: count + self._batch.unknown[name] for name, count in self._inline.unknown.items()
        }

    def list_spool_columns(self) -> Columns:
        """The columns of the predictions table for this release, in its order."""
        signature = self.signature
        return list_prediction_columns(
            signature.key, signature.features, signature.categories.keys()
        )

    def _encode(self, rows: Sequence[Mapping[str, Value]], encoder: Encoder) -> Floats32:
        matrix = encoder.encode(rows)
        if np.isinf(matrix).any():
            raise ContractBroken(
                "a number is beyond the range of float32",
                rule="range",
                remedy="the model computes with numbers up to 3.4e38",
            )
        return matrix
