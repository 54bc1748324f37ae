"""Bytes between a connection and the blob store, in bounded memory."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from anyio import to_thread
from starlette.responses import Response, StreamingResponse

from storage.embedded.blobs import CHUNK_BYTES, Incoming, Written
from storage.embedded.errors import BadRange, TooLarge
from storage.embedded.lake import Lake
from storage.embedded.ranges import Entry
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
    lake: Lake,
    chunks: AsyncIterator[bytes],
    check: Callable[[Incoming], None] | None = None,
    *,
    part: str = "",
) -> Written:
    """Make a body durable, as a blob or as the file of a part.

    `check` may still refuse it when all of it is there. Raises: TooLarge.
    """
    incoming: Incoming | None = None
    waiting, received = bytearray(), 0
    try:
        async for chunk in chunks:
            received += len(chunk)
            check_size(received)
            waiting += chunk
            if len(waiting) >= CHUNK_BYTES:
                incoming = await to_thread.run_sync(_append, lake, incoming, waiting)
                waiting = bytearray()
        return await to_thread.run_sync(_finish, lake, incoming, waiting, check, part)
    except BaseException:
        if incoming is not None:
            incoming.discard()
        raise


def check_size(size: int) -> None:
    """Raises: TooLarge for a body that S3 would have uploaded in parts."""
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"request body is larger than {MAX_BODY_BYTES} bytes: upload it in parts")


async def limited(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """A body that is held in memory. Raises: TooLarge."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"request body is larger than {limit} bytes")
    return bytes(body)


def span_of(header: str, size: int) -> Span:
    """The one range a Range header asks for. Raises: BadRange, or Refused if it is malformed."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit != "bytes" or not dash or not _are_numbers(first.strip(), last.strip()):
        raise Refused("invalid range")
    if not first.strip():
        return _suffix(int(last), size)
    start = int(first)
    stop = min(int(last) + 1, size) if last.strip() else size
    if last.strip() and int(last) < start:
        raise Refused("invalid range")
    if start >= size:
        raise BadRange("Requested Range Not Satisfiable")
    return Span(start, stop)


async def send(
    lake: Lake, entry: Entry, span: Span | None, headers: dict[str, str], *, name: str
) -> Response:
    """The bytes as a response; small ones at once, others in chunks as the client takes them.

    `name` is what a damaged object is called.
    """
    part = span or Span(0, entry.size)
    read = lake.blobs.read(entry.digest, entry.size, part.start, part.stop)
    chunks = _named(name, read)
    first = await to_thread.run_sync(_next, chunks)
    headers = {**headers, "Content-Length": str(part.stop - part.start)}
    if span is not None:
        headers["Content-Range"] = span.content_range(entry.size)
    status = 206 if span is not None else 200
    if len(first) == part.stop - part.start:
        return Response(first, status, headers)
    return StreamingResponse(_rest(first, chunks), status, headers)


def _append(lake: Lake, incoming: Incoming | None, chunk: bytearray) -> Incoming:
    incoming = incoming or lake.blobs.receive()
    incoming.write(chunk)
    return incoming


def _finish(
    lake: Lake,
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


def _suffix(length: int, size: int) -> Span:
    if length == 0 or size == 0:
        raise BadRange("Requested Range Not Satisfiable")
    return Span(max(size - length, 0), size)


def _named(name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Damaged as error:
        raise Damaged(f"{name} cannot be read: {error}", remedy=error.remedy) from error


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


async def _rest(first: bytes, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = await to_thread.run_sync(_next, chunks)
