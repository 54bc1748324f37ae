"""The one part of a multipart form that an upload carries, streamed."""

from collections.abc import AsyncIterator
from email.message import Message
from email.parser import BytesHeaderParser

from storage.errors import Refused

MAX_HEADER_BYTES = 16 << 10


async def content_part(
    content_type: str, body: AsyncIterator[bytes]
) -> tuple[str, AsyncIterator[bytes]]:
    """The content type and the bytes of the form's `content` part. Raises: Refused."""
    form = _Form(body, b"\r\n--" + _boundary(content_type))
    while (part := await form.next_part()) is not None:
        if part.get_param("name", header="content-disposition") == "content":
            return part.get("Content-Type", ""), form.part_bytes()
        async for _ in form.part_bytes():
            pass
    raise Refused("multipart upload missing key 'content'")


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if not boundary:
        raise Refused("no multipart boundary param in Content-Type")
    return boundary.encode("latin-1", "replace")


class _Form:
    """A cursor over a form; holds a chunk and a delimiter's length at most."""

    def __init__(self, body: AsyncIterator[bytes], delimiter: bytes) -> None:
        self._body, self._delimiter = body, delimiter
        # The first delimiter has no line before it; this gives it one.
        self._held = bytearray(b"\r\n")
        self._begun = False

    async def next_part(self) -> Message | None:
        """The next part's headers, or None behind the last part."""
        if not self._begun:
            self._begun = True
            async for _ in self.part_bytes():
                pass
        while b"\r\n\r\n" not in self._held and not self._held.startswith(b"--"):
            if len(self._held) > MAX_HEADER_BYTES:
                raise Refused("multipart form: part headers are too long")
            await self._more()
        if self._held.startswith(b"--"):
            return None
        end = self._held.index(b"\r\n\r\n")
        headers = bytes(self._held[2:end])
        del self._held[: end + 4]
        return BytesHeaderParser().parsebytes(headers)

    async def part_bytes(self) -> AsyncIterator[bytes]:
        """What comes before the next delimiter, which is consumed."""
        while (found := self._held.find(self._delimiter)) < 0:
            safe = len(self._held) - len(self._delimiter) + 1
            if safe > 0:
                yield bytes(self._held[:safe])
                del self._held[:safe]
            await self._more()
        if found:
            yield bytes(self._held[:found])
        del self._held[: found + len(self._delimiter)]

    async def _more(self) -> None:
        try:
            self._held += await anext(self._body)
        except StopAsyncIteration as error:
            raise Refused("multipart form ends before its closing boundary") from error
