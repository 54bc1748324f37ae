"""Bytes of a file as a body, which the kernel copies from its cache to the connection.

An application puts a `FilePart` where an ASGI message has its bytes, if the scope's extensions
name FILES. The connection is written through a descriptor of its own, because asyncio lets nobody
wait on one that a transport owns, and because its own `sendfile` does not tell a slow client from
one that stopped reading.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

FILES = "headrace.files"
_COPIED_BYTES = 64 << 10
# File systems that cannot do it say so in one of these ways.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes `start` up to `stop` of a file, which stays open until they are sent."""

    file: BinaryIO
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def content(self) -> bytes:
        """The bytes themselves, for a server that knows no files."""
        return os.pread(self.file.fileno(), len(self), self.start)


class Progress(Protocol):
    """Hears whether bytes left, or the client has no room for any."""

    def __call__(self, *, moved: bool) -> None:
        """Once for every attempt to write."""


class Outlet:
    """Where file bytes leave to.

    `closed` says whether the connection is gone; `wake` must be called when it goes.
    """

    def __init__(self, progressed: Progress, closed: Callable[[], bool]) -> None:
        self._progressed, self._closed = progressed, closed
        self._writable: asyncio.Future[None] | None = None

    async def pour(self, connection: int, part: FilePart) -> None:
        """Write all of a part. Raises: ConnectionError if the client goes, OSError for the file."""
        handle, at = os.dup(connection), part.start
        try:
            while at < part.stop:
                if self._closed():
                    raise ConnectionResetError("the client is gone")
                try:
                    at += _some(handle, part.file.fileno(), at, part.stop)
                    self._progressed(moved=True)
                except BlockingIOError:
                    self._progressed(moved=False)
                    await self._room(handle)
        finally:
            os.close(handle)

    def wake(self) -> None:
        """Go on: there is room, or there never will be."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    async def _room(self, handle: int) -> None:
        loop = asyncio.get_running_loop()
        self._writable = loop.create_future()
        loop.add_writer(handle, self.wake)
        try:
            await self._writable
        finally:
            loop.remove_writer(handle)
            self._writable = None


def _some(connection: int, file: int, start: int, stop: int) -> int:
    try:
        sent = os.sendfile(connection, file, start, stop - start)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        block = os.pread(file, min(_COPIED_BYTES, stop - start), start)
        sent = os.write(connection, block) if block else 0
    if sent == 0:
        raise OSError(errno.EIO, "the file became shorter while it was sent")
    return sent
