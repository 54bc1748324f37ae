"""Connections with deadlines: a client that sends or reads too slowly is closed.

uvicorn itself bounds only idle connections. One sweep a second over all of them costs less than a
timer for each. What ends a transfer is a pause, a rate that no network is that slow at or, where
messages are small, their whole time.
"""

import asyncio
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SWEEP_S = 1.0
SPARE_DESCRIPTORS = 256


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long a client may keep each waiting."""

    connections: int
    headers_s: float
    """From a message's first byte to the end of its headers; also before the first message."""
    pause_s: float
    """Without a byte of a body that is due, or with an answer that the client does not take."""
    message_s: float = inf
    """From a message's first byte to its last."""
    body_bytes_per_s: int = 0
    """How fast a body must come, on average, once it takes longer than a pause."""
    descriptors: int = 1
    """How many files one connection may hold open, itself included."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a clock on headers, on bodies and on the client's reading.

    `arrived` in a request's state is the loop time at which its headers were complete.
    """

    limits: ClassVar[ConnectionLimits]

    @classmethod
    def with_limits(cls, limits: ConnectionLimits) -> type[Self]:
        """This protocol under these limits; uvicorn takes a class."""
        return type(cls.__name__, (cls,), {"limits": limits})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Its own: requests of other connections arrive at other times.
        self.app_state = dict(self.app_state)
        now = self.loop.time()
        self._message_since: float | None = now
        self._stalled_since: float | None = None
        self._body_since, self._heard_at, self._body_bytes = now, now, 0

    def connection_made(self, transport: Any) -> None:
        """Turn a client away at once where it would take a descriptor that others need."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Start a message's clock at its first byte, stop it at its last."""
        now = self._heard_at = self.app_state["arrived"] = self.loop.time()
        was_body = self.conn.their_state is h11.SEND_BODY
        if self._message_since is None:
            self._message_since = now
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._message_since = None
        if not was_body:
            self._body_since, self._body_bytes = now, 0
        self._body_bytes += len(data)

    def on_response_complete(self) -> None:
        """A message that was sent before this answer begins its own clock."""
        super().on_response_complete()
        is_begun = self.conn.their_state is h11.SEND_BODY or (
            self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        )
        self._message_since = self.loop.time() if is_begun else None

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        self.note_progress(moved=False)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.note_progress(moved=True)
        super().resume_writing()

    def note_progress(self, *, moved: bool) -> None:
        """Note that the client took some of its answer, or has no room for more of it."""
        if moved:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP, unless an answer is already on its way."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.answer_bad_request(msg)
        else:
            self.transport.close()

    def answer_bad_request(self, problem: str) -> None:
        """Say what is wrong and close; a server whose other errors look otherwise overrides it."""
        super().send_400_response(problem)

    def is_overdue(self, now: float) -> bool:
        """Whether the client kept this connection waiting for too long."""
        limits, begun = self.limits, self._message_since
        if begun is not None:
            has_headers = self.conn.their_state is not h11.IDLE
            if now - begun > (limits.message_s if has_headers else limits.headers_s):
                return True
        if self._stalled_since is not None and now - self._stalled_since > limits.pause_s:
            return True
        return self._owes_a_body() and self._is_slow(now)

    def _owes_a_body(self) -> bool:
        """Whether bytes are due from the client, rather than held back by us."""
        if self.flow.read_paused or self.conn.they_are_waiting_for_100_continue:
            self._body_since = self._heard_at = self.loop.time()
            self._body_bytes = 0
            return False
        return self.conn.their_state is h11.SEND_BODY

    def _is_slow(self, now: float) -> bool:
        seconds = now - self._body_since
        return now - self._heard_at > self.limits.pause_s or (
            seconds > self.limits.pause_s
            and self._body_bytes < self.limits.body_bytes_per_s * seconds
        )


def allow_descriptors(limits: ConnectionLimits) -> None:
    """Raise this process's limit of open files as far as the connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.descriptors * limits.connections + SPARE_DESCRIPTORS
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
