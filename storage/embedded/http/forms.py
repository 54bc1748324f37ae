"""The one part of a multipart form that an upload carries, streamed."""

import logging
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from storage.errors import Refused

MAX_HEADER_BYTES = 16 << 10
# What it warns of is answered with a 400.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


async def read_content_part(
    content_type: str, body: AsyncIterator[bytes]
) -> tuple[str, AsyncIterator[bytes]]:
    """The content type and the bytes of the form's `content` part. Raises: Refused."""
    reader = _FormReader(_read_boundary(content_type))
    while not reader.is_inside:
        if reader.is_over:
            raise Refused("multipart upload missing key 'content'")
        await reader.take(body)
    return reader.content_type, _stream(reader, body)


async def _stream(reader: "_FormReader", body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        for chunk in reader.pop_chunks():
            yield chunk
        if reader.is_over:
            return
        await reader.take(body)


def _read_boundary(content_type: str) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refused("no multipart boundary param in Content-Type")
    return boundary


class _FormReader:
    """What the parser told so far; holds the bytes of one chunk of the body at most.

    `is_inside` once the part called `content` began; `is_over` behind that part, or behind the
    form if it has none.
    """

    def __init__(self, boundary: bytes) -> None:
        self.is_inside = self.is_over = False
        self.content_type = ""
        self._chunks: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_part,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end_form,
                },
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise Refused(f"multipart form: {error}") from error

    async def take(self, body: AsyncIterator[bytes]) -> None:
        """Parse the next chunk. Raises: Refused if there is none, or it is malformed."""
        try:
            self._parser.write(await anext(body))
        except StopAsyncIteration as error:
            raise Refused("multipart form ends before its closing boundary") from error
        except FormParserError as error:
            if not self.is_over:  # what comes behind the part is not read
                raise Refused(f"multipart form: {error}") from error

    def pop_chunks(self) -> list[bytes]:
        """The bytes of the part that were not popped yet."""
        chunks, self._chunks = self._chunks, []
        return chunks

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers.setdefault(bytes(self._name.lower()), bytes(self._value))
        self._name.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if options.get(b"name") == b"content" and not self.is_over:
            self.is_inside = True
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self.is_inside and not self.is_over:
            self._chunks.append(data[start:end])

    def _end_part(self) -> None:
        self.is_over = self.is_over or self.is_inside

    def _end_form(self) -> None:
        self.is_over = True
