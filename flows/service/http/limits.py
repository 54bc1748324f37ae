"""What one service takes on: body sizes, rows, waiting work; beyond it requests are shed.

Shedding is by what is known at the door: how long the event loop took to get to the request, how
many bytes of bodies are held, how many batches wait for the batch thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from flows.errors import ContractBroken
from storage.http.deadlines import ConnectionLimits

CONNECTIONS = 4096


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of one service. A body of `inline_bytes` is answered on the event loop itself."""

    body_bytes: int = 16 * 2**20
    bodies_bytes: int = 256 * 2**20
    rows: int = 20_000
    inline_bytes: int = 32 * 2**10
    batches: int = 16
    queue_s: float = 0.25
    request_s: float = 10.0


def connection_limits(limits: RequestLimits) -> ConnectionLimits:
    """One deadline for each part of a message: all of them are small."""
    seconds = limits.request_s
    return ConnectionLimits(CONNECTIONS, headers_s=seconds, pause_s=seconds, message_s=seconds)


class Intake:
    """What is being held now, against the limits. Used on the event loop only."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self._bodies = self._batches = 0

    def check_wait(self, waited_s: float) -> None:
        """Raises: ContractBroken if the request waited so long that others would wait longer."""
        if waited_s > self.limits.queue_s:
            raise refuse_overload("more requests arrive than can be answered")

    @contextmanager
    def batch(self) -> Iterator[None]:
        """A place in the batch thread's queue. Raises: ContractBroken if there is none."""
        if self._batches >= self.limits.batches:
            raise refuse_overload(f"{self._batches} batches are waiting already")
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1

    async def read_body(self, scope: Scope, receive: Receive) -> bytes:
        """The request's body, refused as soon as it is known to be too large.

        Raises: ContractBroken; ClientDisconnect if the client went away.
        """
        self._check_size(_declared_length(scope))
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            self._check_size(len(body))
            return body
        return await self._read_parts(message.get("body", b""), message["type"], receive)

    async def _read_parts(self, first: bytes, kind: str, receive: Receive) -> bytes:
        body, more = bytearray(first), True
        held = len(body)
        self._bodies += held
        try:
            while more:
                if kind == "http.disconnect":
                    raise ClientDisconnect
                message = await receive()
                kind, part = message["type"], message.get("body", b"")
                more = kind == "http.disconnect" or message.get("more_body", False)
                self._check_size(len(body) + len(part))
                if self._bodies + len(part) > self.limits.bodies_bytes:
                    raise refuse_overload("the bodies of other requests fill the memory set aside")
                body += part
                self._bodies += len(part)
                held += len(part)
        finally:
            self._bodies -= held
        return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self.limits.body_bytes:
            raise ContractBroken(
                f"the body is larger than {self.limits.body_bytes} bytes",
                rule="too_large",
                code="service.too_large",
                remedy="send the rows in several requests",
            )


def refuse_overload(why: str) -> ContractBroken:
    """The refusal of a request that would be answered at another time."""
    return ContractBroken(
        why, rule="overloaded", code="service.overloaded", remedy="try again in a second"
    )


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0
