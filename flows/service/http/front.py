"""The outermost layer: every answer is counted, timed and logged; late requests are shed."""

import asyncio
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.service.http.telemetry import ServiceMetrics
from storage.http.access_log import AccessLog

# Asked every second by whoever watches; their lines would bury the others.
_UNLOGGED = ("/health", "/v2/health", "/metrics")


class TelemetryMiddleware:
    """Wraps the application. `state` of a request collects what the log says of it."""

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        state = scope.setdefault("state", {})
        begun = state.setdefault("arrived", loop.time())
        state["waited_s"] = loop.time() - begun
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._note(scope, status, loop.time() - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # A path that is no route may hold anything, and would be a metric of its own.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.count_answer(route, status, seconds)
        if route.startswith(_UNLOGGED):
            return
        state = scope["state"]
        self._log.add(
            at=datetime.now(UTC),
            method=scope["method"][:16],
            route=route,
            status=status,
            ms=round(seconds * 1000, 3),
            rows=state.get("rows", 0),
            release=state.get("release"),
            request_id=state.get("request_id"),
            rule=state.get("rule"),
        )
