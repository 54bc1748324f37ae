"""Bodies in AWS chunks: decoded as they stream, each chunk's signature and the trailer checked.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
"""

import hmac
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256

from storage.embedded.s3.checksums import check_checksum, start_checksum
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.sigv4 import ALGORITHM, Signature

MAX_LINE_BYTES = 4096
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
FORMS = (SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER)
TRAILER_SIGNATURE = "x-amz-trailer-signature"
_EMPTY = sha256().hexdigest()
_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")


class ChunkedBody:
    """Decodes one body. `trailer` names the checksum header that follows it, if one does."""

    def __init__(
        self, body: AsyncIterator[bytes], form: str, signature: Signature, trailer: str
    ) -> None:
        self._body, self._form = body, form
        self._signature = signature
        self._trailer = trailer.strip().lower()
        self._checksum = start_checksum(self._trailer) if self._trailer else None
        self._held = bytearray()

    async def decode(self) -> AsyncIterator[bytes]:
        """The payload. Raises: S3Refused at the first chunk that is not as signed."""
        while (header := await self._read_line()) is not None:
            size, told = _parse_chunk_header(header)
            hashed = sha256()
            async for data in self._read_exactly(size):
                if self._form != UNSIGNED_TRAILER:
                    hashed.update(data)
                if self._checksum is not None:
                    self._checksum.update(data)
                yield data
            self._check_chunk(hashed.hexdigest(), told)
            if size == 0:
                await self._end()
                return
            if await self._read_line() != b"":
                raise S3Refused("IncompleteBody", "A chunk does not end where it says.")
        raise S3Refused("IncompleteBody")

    async def _end(self) -> None:
        lines: dict[str, str] = {}
        while line := await self._read_line():
            name, _, value = line.decode("latin-1").partition(":")
            lines[name.strip().lower()] = value.strip()
        if self._checksum is None:
            return
        if self._trailer not in lines:
            raise S3Refused("IncompleteBody", f"The trailer {self._trailer} is missing.")
        check_checksum(self._checksum, lines[self._trailer])
        if self._form == SIGNED_TRAILER:
            self._check_trailer(lines)

    def _check_chunk(self, digest: str, told: str) -> None:
        if self._form == UNSIGNED_TRAILER:
            return
        parts = (self._signature.value, _EMPTY, digest)
        expected = self._signature.sign_next(*parts, algorithm=f"{ALGORITHM}-PAYLOAD")
        self._advance(expected, told)

    def _check_trailer(self, lines: dict[str, str]) -> None:
        told = lines.get(TRAILER_SIGNATURE, "")
        text = f"{self._trailer}:{lines[self._trailer]}\n"
        parts = (self._signature.value, sha256(text.encode()).hexdigest())
        expected = self._signature.sign_next(*parts, algorithm=f"{ALGORITHM}-TRAILER")
        self._advance(expected, told)

    def _advance(self, expected: str, told: str) -> None:
        if not hmac.compare_digest(expected.encode(), told.encode()):
            raise S3Refused("SignatureDoesNotMatch")
        self._signature = replace(self._signature, value=expected)

    async def _read_line(self) -> bytes | None:
        """The next line without its end; None where the body ends."""
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > MAX_LINE_BYTES:
                raise S3Refused("IncompleteBody", "A chunk header is too long.")
            if not await self._receive_more():
                return None
        line = bytes(self._held[:end]).rstrip(b"\r")
        del self._held[: end + 1]
        return line

    async def _read_exactly(self, size: int) -> AsyncIterator[bytes]:
        while size > 0:
            if not self._held and not await self._receive_more():
                raise S3Refused("IncompleteBody")
            data = bytes(self._held[:size])
            del self._held[:size]
            size -= len(data)
            yield data

    async def _receive_more(self) -> bool:
        async for chunk in self._body:
            if chunk:
                self._held += chunk
                return True
        return False


def _parse_chunk_header(line: bytes) -> tuple[int, str]:
    found = _HEADER.fullmatch(line)
    if found is None:
        raise S3Refused("IncompleteBody", "A chunk header is malformed.")
    return int(found[1], 16), (found[2] or b"").decode()
