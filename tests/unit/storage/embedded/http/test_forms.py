"""Multipart forms, however they arrive."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.http.forms import MAX_HEADER_BYTES, read_content_part
from storage.errors import Refused

FORM = "multipart/form-data; boundary=B"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def form(content: bytes, before: bytes = b"") -> bytes:
    note = b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\n%s\r\n' % before
    head = b'--B\r\nContent-Disposition: form-data; name="content"; filename="f"\r\n'
    return note + head + b"Content-Type: text/x\r\n\r\n" + content + b"\r\n--B--\r\n"


@given(st.binary(max_size=80), st.integers(1, 40))
async def test_a_form_gives_its_content_part_however_it_is_cut(content, size):
    if b"\r\n--B" in content:
        return
    kind, body = await read_content_part(
        "multipart/form-data; boundary=B", pieces(form(content), size)
    )
    assert (kind, await joined(body)) == ("text/x", content)


@given(st.data())
async def test_a_form_that_ends_early_is_refused(data):
    body = form(b"content")
    cut = data.draw(st.integers(0, len(body) - len(b"--\r\n") - 1))

    async def read():
        _, part = await read_content_part("multipart/form-data; boundary=B", pieces(body[:cut], 9))
        await joined(part)

    with pytest.raises(Refused):
        await read()


async def test_a_form_without_content_or_boundary_is_refused():
    other = form(b"x").replace(b'name="content"', b'name="other"')
    with pytest.raises(Refused, match="missing key 'content'"):
        await read_content_part("multipart/form-data; boundary=B", pieces(other, 9))
    with pytest.raises(Refused, match="boundary"):
        await read_content_part("multipart/form-data", pieces(form(b"x"), 9))


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_lines_that_only_start_like_a_delimiter_are_data(size):
    content = b"\r\n--BB\r\n-B\r\n--b--\r\r\n--"
    _, body = await read_content_part(FORM, pieces(form(content), size))
    assert await joined(body) == content


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_follows_the_content_part_is_not_read(size):
    body = form(b"content").removesuffix(b"--\r\n") + b"\r\nno header at all\r\n\r\n"
    _, part = await read_content_part(FORM, pieces(body, size))
    assert await joined(part) == b"content"


async def test_the_first_of_two_content_parts_is_taken():
    twice = form(b"first").removesuffix(b"--B--\r\n") + form(b"second")
    _, part = await read_content_part(FORM, pieces(twice, 1000))
    assert await joined(part) == b"first"


async def test_a_part_without_a_type_has_none():
    body = form(b"x").replace(b"Content-Type: text/x\r\n", b"")
    kind, _ = await read_content_part('multipart/form-data; boundary="B"', pieces(body, 9))
    assert kind == ""


async def test_headers_without_end_and_malformed_ones_are_refused():
    for header in (b"X-A: " + b"a" * MAX_HEADER_BYTES, b"no colon", b"\0: x"):
        body = form(b"x").replace(b"Content-Type: text/x", header)
        with pytest.raises(Refused, match="multipart form: "):
            await read_content_part(FORM, pieces(body, 1000))


async def test_a_form_without_its_first_delimiter_is_refused():
    with pytest.raises(Refused):
        await read_content_part(FORM, pieces(b"content", 9))
    with pytest.raises(Refused):
        await read_content_part(f"{FORM}{'B' * 300}", pieces(b"content", 9))
