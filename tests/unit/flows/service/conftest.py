"""A served model without a release around it, and the application over it, in process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.service.http.front import Front
from flows.service.http.limits import Intake, Limits
from flows.service.http.predict import Predictor
from flows.service.http.routes import Parts, create_app
from flows.service.http.telemetry import Metrics
from flows.service.models.encode import EncodingFile
from flows.service.models.model import Deployment, ServedModel
from flows.service.models.rows import Signature
from flows.service.models.state import Serving
from flows.service.predictions.spool import Spool, SpoolLimits
from storage.http.access_log import AccessLog

ENCODING = EncodingFile(
    format="headrace-encoding/v1",
    features=("carrier", "distance_mi"),
    categories={"carrier": ("AA", "B6")},
)


class Halves:
    """A session that answers the number of known values in a row, as a share of all."""

    def run(self, outputs: Any, inputs: Any, /) -> list[NDArray[np.float32]]:
        known = (~np.isnan(inputs["features"])).mean(axis=1).astype(np.float32)
        return [np.stack([1 - known, known], axis=1)]


@pytest.fixture
def signature() -> Signature:
    return Signature.of(ENCODING, key="trip")


@pytest.fixture
def make_model() -> Callable[..., ServedModel]:
    def make(version: int = 1) -> ServedModel:
        return ServedModel(
            name="trips",
            version=version,
            digest=f"{version:064x}",
            encoding=ENCODING,
            key="trip",
            session=Halves(),
        )

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
    serving: Serving
    spool: Spool
    intake: Intake
    log: Path

    def deploy(self, champion: ServedModel, **more: Any) -> None:
        for model in (champion, more.get("canary"), more.get("shadow")):
            if model:
                model.columns = self.spool.declare(model.spool_columns())
        self.serving.swap(Deployment(1, "0" * 64, champion, **more))


@pytest.fixture
def limits() -> Limits:
    return Limits(body_bytes=100_000, rows=1000, inline_bytes=1000)


@pytest.fixture
def application(
    spool: Spool, limits: Limits, tmp_path: Path, make_model: Callable[..., ServedModel]
) -> Iterator[Application]:
    serving, intake = Serving(), Intake(limits)
    metrics = Metrics(serving, spool)
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
    transport = httpx.ASGITransport(Front(create_app(parts), metrics=metrics, log=log))
    client = httpx.AsyncClient(transport=transport, base_url="http://service")
    made = Application(client, serving, spool, intake, path)
    made.deploy(make_model())
    yield made
    log.close()
