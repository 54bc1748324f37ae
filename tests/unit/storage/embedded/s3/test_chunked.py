"""Bodies in AWS chunks, however they arrive."""

import base64
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.keys.access_keys import make_admin_key
from storage.embedded.s3.chunked import UNSIGNED_TRAILER, ChunkedBody
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.sigv4 import Signature

NOBODY = Signature("", b"", "", "", make_admin_key("", ""))


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def chunked(parts: list[bytes], told: bytes | None = None) -> bytes:
    sent = b"".join(b"%X\r\n%s\r\n" % (len(part), part) for part in parts if part)
    crc = base64.b64encode(zlib.crc32(b"".join(parts)).to_bytes(4))
    return sent + b"0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % (told or crc)


def decoder(body: bytes, size: int) -> AsyncIterator[bytes]:
    trailer = "x-amz-checksum-crc32"
    return ChunkedBody(pieces(body, size), UNSIGNED_TRAILER, NOBODY, trailer).decode()


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 50))
async def test_chunks_are_decoded_however_they_are_cut(parts, size):
    assert await joined(decoder(chunked(parts), size)) == b"".join(parts)


@given(st.binary(min_size=1, max_size=40), st.data())
async def test_a_body_that_ends_early_is_never_taken(content, data):
    body = chunked([content])
    cut = data.draw(st.integers(0, len(body) - len(b"\r\n\r\n") - 1))
    with pytest.raises(S3Refused):
        await joined(decoder(body[:cut], 7))


@pytest.mark.parametrize("header", [b"-1", b"0x5", b"1_0", b"g", b"", b"5;x=y", b"f" * 17])
async def test_a_malformed_chunk_header_is_refused(header):
    with pytest.raises(S3Refused):
        await joined(decoder(header + b"\r\nabcde\r\n0\r\n\r\n", 9))


async def test_a_checksum_that_does_not_fit_is_refused():
    with pytest.raises(S3Refused) as caught:
        await joined(decoder(chunked([b"content"], told=b"AAAAAA=="), 9))
    assert caught.value.code == "XAmzContentChecksumMismatch"
