"""Everything one prediction service runs, put together."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from flows.service.http.front import TelemetryMiddleware
from flows.service.http.limits import Intake, RequestLimits
from flows.service.http.predict import Predictor
from flows.service.http.routes import Parts, create_app
from flows.service.http.telemetry import ServiceMetrics
from flows.service.models.admit import Admission
from flows.service.models.offer import Source
from flows.service.models.refusals import RefusalOutbox
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.models.swap import IndexFollower
from flows.service.predictions.delivery import Delivery
from flows.service.predictions.spool import Spool, SpoolLimits
from storage.http.access_log import STDERR, AccessLog
from storage.http.deadlines import ConnectionLimits, DeadlineProtocol, sweep
from storage.lake import Lake

CONNECTIONS = 4096
DRAIN_S = 15
HAND_OVER_S = 10.0


@dataclass(frozen=True, slots=True)
class ServedEnvironment:
    """Which pipeline and environment to serve, and the folders to do it from.

    `key` is the pipeline's key column; `folder` is private to this service.
    """

    pipeline: str
    key: str
    environment: str
    keys: Path
    folder: Path


class ServiceProtocol(DeadlineProtocol):
    """Answers bytes that are no HTTP in the same form as any other bad request."""

    def answer_bad_request(self, problem: str) -> None:
        """JSON with the problem and its remedy."""
        body = json.dumps({"error": problem, "remedy": "send HTTP/1.1"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def connection_limits(limits: RequestLimits) -> ConnectionLimits:
    """One deadline for each part of a message: all of them are small."""
    seconds = limits.request_s
    return ConnectionLimits(CONNECTIONS, headers_s=seconds, pause_s=seconds, message_s=seconds)


class PredictionService:
    """Everything one process runs, put together; nothing starts before the server does.

    Raises: SecurityError if the keys cannot be used, Misconfigured if the folder is taken.
    """

    def __init__(
        self,
        lake: Lake,
        served: ServedEnvironment,
        *,
        limits: RequestLimits,
        spool_limits: SpoolLimits,
    ) -> None:
        self._limits = limits
        self.serving = ServingState()
        admission = Admission(
            environment=served.environment, keys=served.keys, folder=served.folder, key=served.key
        )
        admission.check_keys()
        self.spool = Spool(served.folder / "spool", prefix=served.environment, limits=spool_limits)
        admission.clear()
        self.delivery = Delivery(self.spool, lake, repository=served.pipeline)
        self.follower = IndexFollower(
            Source(lake, served.pipeline, served.environment),
            admission,
            self.serving,
            RefusalOutbox(
                lake,
                pipeline=served.pipeline,
                environment=served.environment,
                folder=served.folder / "refusals",
            ),
            prepare=self._declare,
        )
        metrics = ServiceMetrics(self.serving, self.spool)
        parts = Parts(
            environment=served.environment,
            pipeline=served.pipeline,
            serving=self.serving,
            spool=self.spool,
            predictor=Predictor(self.serving, self.spool, max_rows=limits.rows),
            intake=Intake(limits),
            metrics=metrics,
            delivery_problem=lambda: self.delivery.problem,
        )
        self._log = AccessLog(STDERR)
        self._server: uvicorn.Server | None = None
        self.app: ASGIApp = TelemetryMiddleware(
            create_app(parts, lifespan=self._lifespan), metrics=metrics, log=self._log
        )

    def run(self, listening: socket.socket) -> None:
        """Serve on the socket until SIGTERM or SIGINT, then drain."""
        config = uvicorn.Config(
            self.app,
            http=ServiceProtocol.with_limits(connection_limits(self._limits)),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=2048,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_S,
        )
        self._server = uvicorn.Server(config)
        self._server.run(sockets=[listening])

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.delivery.start()
        self.follower.start()
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            self.follower.stop()
            await asyncio.to_thread(self._hand_over)

    async def _sweep(self) -> None:
        if self._server is not None:
            await sweep(self._server.server_state.connections)

    def _hand_over(self) -> None:
        self.delivery.stop(timeout_s=HAND_OVER_S)
        self.spool.close()
        self._log.close()

    def _declare(self, loaded: LoadedIndex) -> None:
        for model in loaded.models:
            model.columns = self.spool.declare(model.spool_columns())
