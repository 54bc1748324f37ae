"""The outermost layer: every request gets an id, and its answer is counted, timed and logged."""

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage.embedded.http.metrics import API, GATEWAY, Metrics
from storage.http.access_log import AccessLog

# Asked every second by whoever watches; their lines would bury the others.
_UNLOGGED = ("/metrics", "/api/v1/healthcheck", "/_health")
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class RequestObserver:
    """Middleware. A request's `state` collects what log and metrics say of it.

    `operation` is a route or an S3 operation, never a path: a path may hold anything. `user` and
    `key` name whoever was let in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: AccessLog | None) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, receive, send)
        underway = self._metrics.underway.labels(seen.service)
        underway.inc()
        try:
            await self._app(scope, seen.receive, seen.send)
        except Exception:
            seen.status = 500
            raise
        finally:
            underway.dec()
            self._note(seen)

    def _note(self, seen: "_Seen") -> None:
        seconds, state = time.perf_counter() - seen.begun, seen.state
        self._metrics.count_answer(
            state.get("service", seen.service),
            state.get("operation", "other"),
            seen.method,
            seen.status,
            seconds=seconds,
            received=seen.received,
            sent=seen.sent,
        )
        if self._log is None or seen.scope["path"] in _UNLOGGED:
            return
        self._log.add(
            at=datetime.now(UTC),
            request_id=state["request_id"],
            method=seen.method,
            path=seen.scope["path"][:1024].encode(errors="replace").decode(),
            operation=state.get("operation"),
            status=seen.status,
            ms=round(seconds * 1000, 3),
            received=seen.received,
            sent=seen.sent,
            client=seen.client,
            user=state.get("user"),
            key=state.get("key"),
        )


class _Seen:
    """One request as it passes: its id, its status, the bytes both ways."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.begun = time.perf_counter()
        # 499 stands if the client goes before there is an answer, as lakeFS has it.
        self.status, self.received, self.sent = 499, 0, 0
        self.state: dict[str, Any] = dict(scope.get("state") or {})
        self.state["request_id"] = _request_id(Headers(scope=scope))
        scope["state"] = self.state

    @property
    def service(self) -> str:
        """REST or S3, from the path alone; the gateway knows better and says so."""
        return API if self.scope["path"].startswith("/api/v1") else GATEWAY

    @property
    def method(self) -> str:
        """The method, if it is one that a label may have."""
        return self.scope["method"] if self.scope["method"] in _METHODS else "other"

    @property
    def client(self) -> str:
        """Whose address asks."""
        client = self.scope.get("client")
        return client[0] if client else ""

    async def receive(self) -> Message:
        """Count what comes."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Count what goes; name the request in its answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-amz-request-id"] = headers["x-request-id"] = self.state["request_id"]
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)


def _request_id(headers: Headers) -> str:
    """The client's own id, if it is one that a log can show, or a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
