"""Connections with deadlines: a client that sends or reads too slowly is closed.

uvicorn itself bounds only idle connections. A transfer may take as long as it needs while it
moves; what ends it is a pause, or a rate that no network is that slow at. One sweep a second
over all connections costs less than a timer for each. File bytes pass uvicorn by, so their clock
is here as well.
"""

import asyncio
import resource
from collections.abc import Iterable
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from storage.embedded.bytes.sendfile import FILES, FilePart, Outlet

SWEEP_S = 1.0
HEADERS_S, PAUSE_S = 20.0, 60.0
MIN_BYTES_PER_S = 256
MOST_CONNECTIONS = 2048
MOST_HEADER_BYTES = 32 << 10


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a clock on headers, on bodies and on the client's reading."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        now = self.loop.time()
        self.headers_since: float | None = now
        self.body_since, self.heard_at, self.body_bytes = now, now, 0
        self.stalled_since: float | None = None
        self._outlet = Outlet(self._progressed, self._is_closing)
        self._application, self.app = self.app, self._with_files

    def connection_made(self, transport: Any) -> None:
        """Turn a client away at once where it would take a descriptor that others need."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what waits for the client."""
        super().connection_lost(exc)
        self._outlet.wake()

    def data_received(self, data: bytes) -> None:
        """Note when something came; start and stop the clock on headers."""
        now = self.heard_at = self.loop.time()
        was_body = self.conn.their_state is h11.SEND_BODY
        if self.headers_since is None and not was_body:
            self.headers_since = now
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.headers_since = None
        if not was_body:
            self.body_since, self.body_bytes = now, 0
        self.body_bytes += len(data)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.stalled_since = None
        super().resume_writing()

    async def _with_files(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            part = message.get("body")
            await (self._send_file(part) if isinstance(part, FilePart) else send(message))

        extensions = {**scope.get("extensions", {}), FILES: {}}
        await self._application({**scope, "extensions": extensions}, receive, sending)

    async def _send_file(self, part: FilePart) -> None:
        """Raises: ConnectionError if the client goes."""
        # What was written before leaves first: no limit is the transport's word for "wait for it".
        self.transport.set_write_buffer_limits(high=0)
        await self.flow.drain()
        self.transport.set_write_buffer_limits()
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.conn.send_with_data_passthrough(h11.Data(data=part))  # type: ignore[arg-type]
        connection = self.transport.get_extra_info("socket").fileno()
        try:
            await self._outlet.pour(connection, part)
        except OSError:
            self.transport.abort()
            # The loop says it to uvicorn, which else would report an answer without an end.
            await asyncio.sleep(0)
            raise

    def _is_closing(self) -> bool:
        return self.transport.is_closing()

    def _progressed(self, *, moved: bool) -> None:
        if moved:
            self.stalled_since = None
        elif self.stalled_since is None:
            self.stalled_since = self.loop.time()

    def is_overdue(self, now: float) -> bool:
        """Whether the client kept this connection waiting for too long."""
        if self.headers_since is not None and now - self.headers_since > HEADERS_S:
            return True
        if self.stalled_since is not None and now - self.stalled_since > PAUSE_S:
            return True
        return self._owes_a_body() and self._is_slow(now)

    def _owes_a_body(self) -> bool:
        """Whether bytes are due from the client, rather than held back by us."""
        if self.flow.read_paused or self.conn.they_are_waiting_for_100_continue:
            self.body_since = self.heard_at = self.loop.time()
            self.body_bytes = 0
            return False
        return self.conn.their_state is h11.SEND_BODY

    def _is_slow(self, now: float) -> bool:
        seconds = now - self.body_since
        return now - self.heard_at > PAUSE_S or (
            seconds > PAUSE_S and self.body_bytes < MIN_BYTES_PER_S * seconds
        )


def allow_descriptors() -> None:
    """Raise this process's limit of open files as far as the connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A request may hold its connection, a blob and a database connection at once.
    wanted = 3 * MOST_CONNECTIONS + 256
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def sweep(connections: Iterable[Any]) -> None:
    """Close overdue connections, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_S)
        now = loop.time()
        for connection in list(connections):
            if isinstance(connection, DeadlineProtocol) and connection.is_overdue(now):
                connection.transport.abort()
