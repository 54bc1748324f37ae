"""Connections with deadlines: a client that sends or reads too slowly is closed.

uvicorn itself bounds only idle connections. One sweep a second over all of them costs less than a
timer for each request.
"""

import asyncio
import json
import resource
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SWEEP_S = 1.0
MOST_CONNECTIONS = 4096


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a clock on each message.

    `arrived` in a request's state is the loop time at which its headers were complete.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app_state = dict(self.app_state)
        self.reading_since: float | None = self.loop.time()
        self.stalled_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Turn a client away at once where it would take a descriptor that others need."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Start the clock at a message's first byte, stop it at its last."""
        now = self.loop.time()
        self.app_state["arrived"] = now
        if self.reading_since is None:
            self.reading_since = now
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.reading_since = None

    def on_response_complete(self) -> None:
        """A pipelined message begins its own clock."""
        super().on_response_complete()
        pending = self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]
        self.reading_since = self.loop.time() if pending else None

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client caught up."""
        self.stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Bytes that are no HTTP are answered in the same form as any other bad request."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = json.dumps({"error": msg, "remedy": "send HTTP/1.1"}).encode()
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

    def is_overdue(self, now: float, deadline_s: float) -> bool:
        """Whether one message has been under way for too long, in either direction."""
        since = [t for t in (self.reading_since, self.stalled_since) if t is not None]
        return any(now - start > deadline_s for start in since)


def allow_descriptors() -> None:
    """Raise this process's limit of open files as far as the connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + 256
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def sweep(connections: Iterable[Any], *, deadline_s: float) -> None:
    """Close overdue connections, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_S)
        now = loop.time()
        for connection in list(connections):
            if isinstance(connection, DeadlineProtocol) and connection.is_overdue(now, deadline_s):
                connection.transport.abort()
