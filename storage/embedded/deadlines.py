"""Connections with deadlines: a client that sends or reads too slowly is closed.

uvicorn itself bounds only idle connections. A transfer may take as long as it needs while it
moves; what ends it is a pause, or a rate that no network is that slow at. One sweep a second
over all connections costs less than a timer for each.
"""

import asyncio
import resource
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

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

    def connection_made(self, transport: Any) -> None:
        """Turn a client away at once where it would take a descriptor that others need."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

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
