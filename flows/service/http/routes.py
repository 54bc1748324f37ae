"""The routes: the Open Inference Protocol, MLflow's invocations, health, metrics and status."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from flows.errors import ContractBroken
from flows.service.http import inference
from flows.service.http.error_answers import add_error_answers, answer_json
from flows.service.http.limits import Intake
from flows.service.http.predict import (
    PredictionAnswer,
    Predictor,
    ProtocolName,
    RequestHead,
    measure_shadow,
    refuse_model,
)
from flows.service.http.telemetry import ServiceMetrics
from flows.service.models.state import ServingState
from flows.service.predictions.spool import Spool

NAME, VERSION = "headrace", "0.1.0"

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes read and use."""

    environment: str
    pipeline: str
    serving: ServingState
    spool: Spool
    predictor: Predictor
    intake: Intake
    metrics: ServiceMetrics
    delivery_problem: Callable[[], str]


def create_app(parts: Parts, *, lifespan: Lifespan | None = None) -> FastAPI:
    """The application, without the layer that counts and logs."""
    app = FastAPI(
        title="Headrace prediction service",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_predictions(app, parts)
    _add_models(app, parts)
    _add_health(app, parts)
    add_error_answers(app)
    return app


def _add_predictions(app: FastAPI, parts: Parts) -> None:
    batches = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")

    async def answer(request: Request, head: RequestHead) -> Response:
        intake, state = parts.intake, request.scope["state"]
        parts.predictor.require_loaded()
        intake.check_wait(state.get("waited_s", 0.0))
        _check_media_type(request)
        body = await intake.read_body(request.scope, request.receive)
        if len(body) <= intake.limits.inline_bytes:
            made = parts.predictor.answer(body, head, inline=True)
        else:
            with intake.batch():
                made = await _in_thread(
                    batches, lambda: parts.predictor.answer(body, head, inline=False)
                )
        state.update(rows=len(made.scores), release=made.model.release, request_id=made.request_id)
        parts.metrics.count_rows(made.model.release, len(made.scores))
        if made.loaded.shadow:
            _compare_later(made)
        headers = {"x-request-id": made.request_id, "x-release": made.model.release}
        return Response(made.body, media_type="application/json", headers=headers)

    def _compare_later(made: PredictionAnswer) -> None:
        def compare() -> None:
            for distance in measure_shadow(made):
                parts.metrics.shadow_difference.observe(distance)

        batches.submit(compare)

    @app.post("/invocations", openapi_extra=_describe_body("MLflow's scoring protocol"))
    async def invocations(request: Request) -> Response:
        return await answer(request, _read_head(request, "invocations"))

    @app.post("/v2/models/{name}/infer", openapi_extra=_describe_body("Open Inference Protocol v2"))
    async def infer(request: Request, name: str) -> Response:
        return await answer(request, _read_head(request, "infer", name))

    @app.post(
        "/v2/models/{name}/versions/{version}/infer",
        openapi_extra=_describe_body("Open Inference Protocol v2"),
    )
    async def infer_version(request: Request, name: str, version: str) -> Response:
        return await answer(request, _read_head(request, "infer", name, version))


def _add_models(app: FastAPI, parts: Parts) -> None:
    def describe(name: str, version: str | None) -> Response:
        loaded = parts.predictor.require_loaded()
        champion = loaded.champion
        model = loaded.find(name, version or str(champion.version))
        if model is None:
            raise refuse_model(loaded)
        return answer_json(
            inference.describe_model(
                model.signature, model=model.name, version=model.version, digest=model.digest
            )
        )

    @app.get("/v2")
    async def server() -> Response:
        return answer_json({"name": NAME, "version": VERSION, "extensions": []})

    @app.get("/v2/models/{name}")
    async def model(name: str) -> Response:
        return describe(name, None)

    @app.get("/v2/models/{name}/versions/{version}")
    async def model_version(name: str, version: str) -> Response:
        return describe(name, version)

    @app.get("/v2/models/{name}/ready")
    async def model_ready(name: str) -> Response:
        return describe(name, None)

    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def version_ready(name: str, version: str) -> Response:
        return describe(name, version)


def _add_health(app: FastAPI, parts: Parts) -> None:
    @app.get("/health")
    @app.get("/health/live")
    @app.get("/v2/health/live")
    async def live() -> Response:
        return answer_json({"live": True, "ready": parts.serving.loaded is not None})

    @app.get("/health/ready")
    @app.get("/v2/health/ready")
    async def ready() -> Response:
        loaded = parts.predictor.require_loaded()
        return answer_json({"ready": True, "release": loaded.champion.release})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(parts.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/status")
    async def status() -> Response:
        return answer_json(describe_status(parts))


def describe_status(parts: Parts) -> dict[str, Any]:
    """What a person, or `doctor`, asks first."""
    serving, now, counts = parts.serving, datetime.now(UTC), parts.spool.counts
    loaded = serving.loaded
    return {
        "pipeline": parts.pipeline,
        "environment": parts.environment,
        "ready": loaded is not None,
        "waiting_for": serving.waiting or None,
        "serving": _describe_loaded(serving),
        "refused": serving.refusal.to_json() if serving.refusal else None,
        "index": {
            "number": loaded.index if loaded else None,
            "digest": loaded.index_digest if loaded else None,
            "fresh_until": serving.fresh_until,
            "stale": serving.explain_staleness(now) or None,
        },
        "lake": {
            "reachable": not serving.lake_problem and serving.checked is not None,
            "problem": serving.lake_problem or parts.delivery_problem() or None,
            "checked": serving.checked,
        },
        "predictions": {
            "accepted": counts.accepted,
            "spooled": counts.spooled,
            "delivered": counts.delivered,
            "lost": counts.lost,
        },
        "unknown_categories": serving.count_unknown_categories(),
    }


def _describe_loaded(serving: ServingState) -> dict[str, Any] | None:
    loaded = serving.loaded
    if loaded is None:
        return None
    canary, shadow = loaded.canary, loaded.shadow
    return {
        "release": loaded.champion.release,
        "digest": loaded.champion.digest,
        "since": serving.since,
        "canary": canary and {"release": canary.release, "percent": loaded.canary_percent},
        "shadow": shadow and {"release": shadow.release},
    }


async def _in_thread(
    pool: ThreadPoolExecutor, work: Callable[[], PredictionAnswer]
) -> PredictionAnswer:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    kind = given.lower()
    if not (kind == "application/json" or kind.endswith("+json")):
        raise ContractBroken(
            f"the body is declared as {given[:80]}",
            rule="media_type",
            code="service.media_type",
            remedy="send JSON with the header Content-Type: application/json",
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ContractBroken(
            "compressed bodies are not read", rule="media_type", code="service.media_type"
        )


def _read_head(
    request: Request, protocol: ProtocolName, model: str | None = None, version: str | None = None
) -> RequestHead:
    return RequestHead(protocol, model, version, request.headers.get("x-request-id"))


def _describe_body(text: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "description": text}}}
    return {"requestBody": {"required": True, "content": content}}
