"""A served model without a release around it, and the application over it, in process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.learn.exported import Encoding
from flows.service.http.limits import Intake, RequestLimits
from flows.service.http.predict import Predictor
from flows.service.http.routes import Parts, create_app
from flows.service.http.telemetry import ServiceMetrics, TelemetryMiddleware
from flows.service.models.model import ServedModel
from flows.service.models.rows import ModelSignature
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.predictions.spool import Spool, SpoolLimits
from security.release.index import NamedRelease
from storage.http.access_log import AccessLog

ENCODING = Encoding(("carrier", "distance_mi"), {"carrier": ("AA", "B6")})


class Halves:
    """A session that answers the number of known values in a row, as a share of all."""

    def run(self, outputs: Any, inputs: Any, /) -> list[NDArray[np.float32]]:
        known = (~np.isnan(inputs["features"])).mean(axis=1).astype(np.float32)
        return [np.stack([1 - known, known], axis=1)]


@pytest.fixture
def signature() -> ModelSignature:
    return ModelSignature.of(ENCODING, key="trip")


@pytest.fixture
def make_model() -> Callable[..., ServedModel]:
    def make(version: int = 1) -> ServedModel:
        reference = NamedRelease("trips", version, f"{version:064x}", f"models/trips/{version}")
        return ServedModel(reference, ENCODING, key="trip", session=Halves())

    return make


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", prefix="test", limits=SpoolLimits(idle_s=600))
    yield spool
    spool.close()


@dataclass
class Application:
    """The application and what it runs on."""

    client: httpx.AsyncClient
    serving: ServingState
    spool: Spool
    intake: Intake
    log: Path

    def deploy(self, champion: ServedModel, **more: Any) -> None:
        for model in (champion, more.get("canary"), more.get("shadow")):
            if model:
                model.columns = self.spool.declare(model.list_spool_columns())
        self.serving.swap(LoadedIndex(1, "0" * 64, champion, **more))


@pytest.fixture
def limits() -> RequestLimits:
    return RequestLimits(body_bytes=100_000, rows=1000, inline_bytes=1000)


@pytest.fixture
def application(
    spool: Spool, limits: RequestLimits, tmp_path: Path, make_model: Callable[..., ServedModel]
) -> Iterator[Application]:
    serving, intake = ServingState(), Intake(limits)
    metrics = ServiceMetrics(serving, spool)
    parts = Parts(
        environment="test",
        pipeline="trips",
        serving=serving,
        spool=spool,
        predictor=Predictor(serving, spool, max_rows=limits.rows),
        intake=intake,
        metrics=metrics,
        delivery_problem=lambda: "",
    )
    path = tmp_path / "access.jsonl"
    log = AccessLog(path)
    transport = httpx.ASGITransport(
        TelemetryMiddleware(create_app(parts), metrics=metrics, log=log)
    )
    client = httpx.AsyncClient(transport=transport, base_url="http://service")
    made = Application(client, serving, spool, intake, path)
    made.deploy(make_model())
    yield made
    log.close()
