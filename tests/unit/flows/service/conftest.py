"""Served models of two features without a release around them, and the application over them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from onnx import TensorProto, helper
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from flows.learn.exported import Encoding
from flows.service.http.error_answers import ServiceProtocol
from flows.service.http.limits import Intake, RequestLimits, connection_limits
from flows.service.http.predict import Predictor
from flows.service.http.routes import Parts, create_app
from flows.service.http.telemetry import ServiceMetrics, TelemetryMiddleware
from flows.service.models.model import ServedModel, Session
from flows.service.models.rows import ModelSignature
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.predictions.spool import Spool, SpoolLimits
from security.policy.documents import SizeLimits
from security.release.index import NamedRelease
from security.release.load import load_onnx
from storage.http.access_log import AccessLog

ENCODING = Encoding(("carrier", "distance_mi"), {"carrier": ("AA", "B6")})


def known_share() -> bytes:
    """An ONNX model that answers how many of a row's values are known, as a share of all."""
    nodes = [
        helper.make_node("IsNaN", ["features"], ["unknown"]),
        helper.make_node("Cast", ["unknown"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["count"], ["negative"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "negative"], ["positive"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "known_share",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(known_share())
    loaded: Session = load_onnx(path, limits=SizeLimits())
    return loaded


@pytest.fixture
def signature() -> ModelSignature:
    return ModelSignature.of(ENCODING, key="trip")


@pytest.fixture
def make_model(session: Session) -> Callable[..., ServedModel]:
    def make(
        version: int = 1, *, encoding: Encoding = ENCODING, answers: Session = session
    ) -> ServedModel:
        reference = NamedRelease("trips", version, f"{version:064x}", f"models/trips/{version}")
        return ServedModel(reference, encoding, key="trip", session=answers)

    return make


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", prefix="test", limits=SpoolLimits(idle_s=600))
    yield spool
    spool.close()


@dataclass
class Application:
    """The application and what it runs on; nothing serves before the first `deploy`."""

    app: ASGIApp
    client: httpx.AsyncClient
    serving: ServingState
    spool: Spool
    intake: Intake
    metrics: ServiceMetrics
    log: AccessLog
    log_path: Path

    def deploy(self, champion: ServedModel, **more: Any) -> None:
        """Serve the next index, as the service does once it is verified."""
        number = self.serving.swaps + 1
        loaded = LoadedIndex(number, f"{number:064x}", champion, **more)
        for model in loaded.models:
            model.columns = self.spool.declare(model.list_spool_columns())
        self.serving.swap(loaded)

    def read_log(self) -> list[str]:
        """Every line of the access log, which is closed for it."""
        self.log.close()
        return self.log_path.read_text().splitlines()


@pytest.fixture
def limits() -> RequestLimits:
    return RequestLimits(body_bytes=100_000, rows=1000, inline_bytes=1000)


@pytest.fixture
def new_application(spool: Spool, limits: RequestLimits, tmp_path: Path) -> Iterator[Application]:
    """Before its first release."""
    serving, intake = ServingState(), Intake(limits)
    metrics, path = ServiceMetrics(serving, spool), tmp_path / "access.jsonl"
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
    log = AccessLog(path)
    app = TelemetryMiddleware(create_app(parts), metrics=metrics, log=log)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://service")
    yield Application(app, client, serving, spool, intake, metrics, log, path)
    log.close()


@pytest.fixture
def application(
    new_application: Application, make_model: Callable[..., ServedModel]
) -> Application:
    """Serving its first release."""
    new_application.deploy(make_model())
    return new_application


@pytest.fixture
def talk(limits: RequestLimits) -> Callable[[ASGIApp, bytes], Awaitable[bytes]]:
    """Send bytes over a connection of the server's own; what it answers until it closes it."""

    async def exchange(app: ASGIApp, data: bytes) -> bytes:
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        config.load()
        loop, protocol = (
            asyncio.get_running_loop(),
            ServiceProtocol.with_limits(connection_limits(limits)),
        )
        here, there = socket.socketpair()
        await loop.connect_accepted_socket(
            lambda: protocol(config, ServerState(), {}, _loop=loop), there
        )
        reader, writer = await asyncio.open_connection(sock=here)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    return exchange
