"""Bodies that arrive in pieces: AWS chunks, multipart forms, S3's XML, byte ranges."""

import base64
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.errors import BadRange
from storage.embedded.http.forms import content_part
from storage.embedded.http.transfer import Span, span_of
from storage.embedded.keys.access_keys import admin
from storage.embedded.s3.chunked import UNSIGNED_TRAILER, ChunkedBody
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.sigv4 import Signature
from storage.embedded.s3.xml import read_records
from storage.errors import Refused

NOBODY = Signature("", b"", "", "", admin("", ""))


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
    return ChunkedBody(pieces(body, size), UNSIGNED_TRAILER, NOBODY, trailer).decoded()


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


def form(content: bytes, before: bytes = b"") -> bytes:
    note = b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\n%s\r\n' % before
    head = b'--B\r\nContent-Disposition: form-data; name="content"; filename="f"\r\n'
    return note + head + b"Content-Type: text/x\r\n\r\n" + content + b"\r\n--B--\r\n"


@given(st.binary(max_size=80), st.integers(1, 40))
async def test_a_form_gives_its_content_part_however_it_is_cut(content, size):
    if b"\r\n--B" in content:
        return
    kind, body = await content_part("multipart/form-data; boundary=B", pieces(form(content), size))
    assert (kind, await joined(body)) == ("text/x", content)


@given(st.data())
async def test_a_form_that_ends_early_is_refused(data):
    body = form(b"content")
    cut = data.draw(st.integers(0, len(body) - len(b"--\r\n") - 1))

    async def read():
        _, part = await content_part("multipart/form-data; boundary=B", pieces(body[:cut], 9))
        await joined(part)

    with pytest.raises(Refused):
        await read()


async def test_a_form_without_content_or_boundary_is_refused():
    other = form(b"x").replace(b'name="content"', b'name="other"')
    with pytest.raises(Refused, match="missing key 'content'"):
        await content_part("multipart/form-data; boundary=B", pieces(other, 9))
    with pytest.raises(Refused, match="boundary"):
        await content_part("multipart/form-data", pieces(form(b"x"), 9))


def test_xml_records_are_read_with_or_without_a_namespace():
    body = b'<Delete xmlns="http://s3/"><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object></Delete>'
    assert read_records(body, "Delete", "Object") == ([{"Key": "a&b"}], {"Quiet": "true"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete>",
        b"<Other/>",
        b'<!DOCTYPE d [<!ENTITY a "x">]><Delete><Object><Key>&a;</Key></Object></Delete>',
    ],
)
def test_xml_that_is_not_the_document_or_declares_entities_is_refused(body):
    with pytest.raises(S3Refused) as caught:
        read_records(body, "Delete", "Object")
    assert caught.value.code == "MalformedXML"


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_slicing_gives(size, first, last):
    content = bytes(range(size))
    if first >= size or last < first:
        with pytest.raises(Refused):
            span_of(f"bytes={first}-{last}", size)
        return
    span = span_of(f"bytes={first}-{last}", size)
    assert content[span.start : span.stop] == content[first : last + 1]
    assert span_of(f"bytes={first}-", size) == Span(first, size)


def test_an_empty_object_has_no_ranges():
    for asked in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(BadRange):
            span_of(asked, 0)


def test_xml_may_claim_any_encoding_and_is_read_as_utf8():
    """Found by fuzzing: an unknown name raised a LookupError, a multi-byte one a ValueError."""
    for claimed in ("TTF-8", "utf-16", "shift_jis", "idna"):
        body = f'<?xml version="1.0" encoding="{claimed}"?><Delete><Quiet>\u00e9</Quiet></Delete>'
        assert read_records(body.encode(), "Delete", "Object") == ([], {"Quiet": "\u00e9"})


@pytest.mark.parametrize("header", ["bytes=%s-", "bytes=0-%s", "bytes=-%s"])
def test_a_range_of_thousands_of_digits_is_malformed(header):
    """Found by fuzzing: int() raised a ValueError of its own."""
    with pytest.raises(Refused, match="invalid range"):
        span_of(header % ("9" * 5000), 100)
