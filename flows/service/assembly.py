"""Everything one prediction service runs, put together."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from flows.service.http.error_answers import ServiceProtocol
from flows.service.http.limits import Intake, RequestLimits, connection_limits
from flows.service.http.predict import Predictor
from flows.service.http.routes import Parts, create_app
from flows.service.http.telemetry import ServiceMetrics, TelemetryMiddleware
from flows.service.models.admit import Admission
from flows.service.models.offer import Source
from flows.service.models.refusals import RefusalOutbox
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.models.swap import IndexFollower
from flows.service.predictions.delivery import Delivery
from flows.service.predictions.spool import Spool, SpoolLimits
from storage.http.access_log import STDERR, AccessLog
from storage.http.deadlines import sweep
from storage.lake import Lake

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
            model.columns = self.spool.declare(model.list_spool_columns())
