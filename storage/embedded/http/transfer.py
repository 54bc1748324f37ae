"""Bytes between a connection and the blob store, in bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storage.embedded.bytes.blobs import CHUNK_BYTES, Incoming, Written
from storage.embedded.bytes.sendfile import FILES, FilePart
from storage.embedded.errors import BadRange, TooLarge
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.lake import EmbeddedLake
from storage.errors import Damaged, Refused

MAX_BODY_BYTES = 5 << 30

# More than any size has; int() refuses thousands of them in a way of its own.
MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to `stop` of an object."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """As the header says it."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


async def store(
    lake: EmbeddedLake,
    chunks: AsyncIterator[bytes],
    check: Callable[[Incoming], None] | None = None,
    *,
    part: str = "",
) -> Written:
    """Make a body durable, as a blob or as the file of a part.

    `check` may still refuse it when all of it is there. Raises: TooLarge.
    """
    waiting, received = bytearray(), 0
    writing = _Writing(lake)
    try:
        async for chunk in chunks:
            received += len(chunk)
            check_size(received)
            waiting += chunk
            if len(waiting) >= CHUNK_BYTES:
                await writing.append(waiting)
                waiting = bytearray()
        incoming = await writing.done()
        return await to_thread.run_sync(_finish, lake, incoming, waiting, check, part)
    except BaseException:
        await writing.discard()
        raise


class _Writing:
    """Appends in a thread, one at a time, while the next bytes are received."""

    def __init__(self, lake: EmbeddedLake) -> None:
        self._lake = lake
        self._under_way: asyncio.Future[Incoming] | None = None

    async def append(self, chunk: bytearray) -> None:
        """Begin to append, once the append before is done. Raises: what that one raised."""
        incoming = await self.done()
        work = to_thread.run_sync(_append, self._lake, incoming, chunk)
        self._under_way = asyncio.ensure_future(work)

    async def done(self) -> Incoming | None:
        """The blob when nothing is under way; None if nothing was appended."""
        if self._under_way is None:
            return None
        # A request that is given up must not take the append with it: its thread goes on.
        return await asyncio.shield(self._under_way)

    async def discard(self) -> None:
        """Forget it, after the append that is under way."""
        if self._under_way is None:
            return
        await asyncio.wait([self._under_way])
        if self._under_way.exception() is None:
            self._under_way.result().discard()


def check_size(size: int) -> None:
    """Raises: TooLarge for a body that S3 would have uploaded in parts."""
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"request body is larger than {MAX_BODY_BYTES} bytes: upload it in parts")


async def read_limited(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """A body that is held in memory. Raises: TooLarge."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"request body is larger than {limit} bytes")
    return bytes(body)


def parse_range(header: str, size: int) -> Span:
    """The one range a Range header asks for. Raises: BadRange, or Refused if it is malformed."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit != "bytes" or not dash or not _are_numbers(first.strip(), last.strip()):
        raise Refused("invalid range")
    if not first.strip():
        return _take_suffix(int(last), size)
    start = int(first)
    stop = min(int(last) + 1, size) if last.strip() else size
    if last.strip() and int(last) < start:
        raise Refused("invalid range")
    if start >= size:
        raise BadRange("Requested Range Not Satisfiable")
    return Span(start, stop)


async def send(
    lake: EmbeddedLake, entry: ObjectEntry, span: Span | None, headers: dict[str, str], *, name: str
) -> Response:
    """The bytes as a response; small ones at once, others in parts as the client takes them.

    `name` is what a damaged object is called.
    """
    part = span or Span(0, entry.size)
    length = part.stop - part.start
    headers = {**headers, "Content-Length": str(length)}
    if span is not None:
        headers["Content-Range"] = span.content_range(entry.size)
    status = 206 if span is not None else 200
    if length <= CHUNK_BYTES:
        return Response(
            await to_thread.run_sync(_read_whole, lake, entry, part, name), status, headers
        )
    reading = await to_thread.run_sync(_Reading, lake, entry, part, name)
    return _Parts(reading, status, headers)


class _Reading:
    """An opened blob, part after part; the first is read at once."""

    def __init__(self, lake: EmbeddedLake, entry: ObjectEntry, span: Span, name: str) -> None:
        self._name = name
        with _name_object(name):
            self.file = lake.blobs.open(entry.digest, entry.size)
        whole = (self.file, entry.digest, entry.size, span.start, span.stop)
        self._parts = lake.blobs.read_parts(*whole)
        try:
            self.first = self.next()
        except BaseException:
            self.file.close()
            raise

    def next(self) -> FilePart | None:
        """The next part; it may be asked for while the one before is sent. Raises: Damaged."""
        with _name_object(self._name):
            return next(self._parts, None)


class _Parts(Response):
    """Parts of a file, the next one read and hashed while one is sent."""

    def __init__(self, reading: _Reading, status: int, headers: dict[str, str]) -> None:
        super().__init__(None, status, headers)
        self._reading = reading

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        # The client may go away at any moment.
        with self._reading.file, suppress(ConnectionError):
            await send({**start, "headers": self.raw_headers})
            await self._send_all(send, as_files=FILES in scope.get("extensions", {}))

    async def _send_all(self, send: Send, *, as_files: bool) -> None:
        part = self._reading.first
        while part is not None:
            ahead = asyncio.ensure_future(to_thread.run_sync(self._reading.next))
            try:
                body = part if as_files else part.content()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                # The file is closed after this, and nobody may be reading it then.
                await asyncio.wait([ahead])
            part = ahead.result()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _append(lake: EmbeddedLake, incoming: Incoming | None, chunk: bytearray) -> Incoming:
    incoming = incoming or lake.blobs.receive()
    incoming.write(chunk)
    return incoming


def _finish(
    lake: EmbeddedLake,
    incoming: Incoming | None,
    chunk: bytearray,
    check: Callable[[Incoming], None] | None,
    part: str,
) -> Written:
    incoming = incoming or lake.blobs.receive()
    try:
        incoming.write(chunk)
        if check is not None:
            check(incoming)
        return lake.blobs.keep(incoming, part)
    except BaseException:
        incoming.discard()
        raise


def _are_numbers(first: str, last: str) -> bool:
    given = [text for text in (first, last) if text]
    return bool(given) and all(
        text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS for text in given
    )


def _take_suffix(length: int, size: int) -> Span:
    if length == 0 or size == 0:
        raise BadRange("Requested Range Not Satisfiable")
    return Span(max(size - length, 0), size)


def _read_whole(lake: EmbeddedLake, entry: ObjectEntry, span: Span, name: str) -> bytes:
    with _name_object(name):
        return b"".join(lake.blobs.read(entry.digest, entry.size, span.start, span.stop))


@contextmanager
def _name_object(name: str) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise Damaged(
            f"{name} cannot be read: {error}", remedy=error.remedy, code=error.code
        ) from error
