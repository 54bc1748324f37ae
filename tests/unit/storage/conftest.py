"""A connection of a server whose loop has the time that a test gives it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from storage.http.deadlines import DeadlineProtocol


@dataclass
class Transport:
    """Keeps what is written to it."""

    written: bytearray = field(default_factory=bytearray)
    is_aborted: bool = False
    is_closed: bool = False

    def get_extra_info(self, _: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def pause_reading(self) -> None:
        """Nothing is read by itself."""

    def resume_reading(self) -> None:
        """Nothing is read by itself."""


class Timer:
    def cancel(self) -> None:
        """It never rings."""


@dataclass
class Loop:
    now: float = 0.0

    def time(self) -> float:
        return self.now

    def call_later(self, *_: Any) -> Timer:
        return Timer()

    def create_task(self, work: Any) -> Any:
        work.close()
        return type("Task", (), {"add_done_callback": lambda *_: None})()


@dataclass
class Connected:
    protocol: DeadlineProtocol
    loop: Loop
    transport: Transport
    state: ServerState

    def receive(self, data: bytes, *, after_s: float = 0.0) -> None:
        self.loop.now += after_s
        self.protocol.data_received(data)

    def is_overdue(self, *, after_s: float) -> bool:
        return self.protocol.is_overdue(self.loop.now + after_s)


@pytest.fixture
def connect() -> Callable[..., Connected]:
    def make(protocol: type[DeadlineProtocol], state: ServerState | None = None) -> Connected:
        config = Config(lambda *_: None)
        config.load()
        loop, transport, shared = Loop(), Transport(), state or ServerState()
        made = protocol(config, shared, {}, _loop=loop)
        made.connection_made(transport)
        return Connected(made, loop, transport, shared)

    return make
