"""Large bodies both ways: hashed beside receiving, sent by the kernel, never cut in silence."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.bytes.blobs import BESIDE_BYTES, CHUNK_BYTES, blob_path
from storage.embedded.bytes.sendfile import FilePart, Outlet
from storage.embedded.errors import BadRange
from storage.embedded.http.transfer import Span, parse_range
from storage.errors import Refused

AUTH = ("AKIAIOSFODNN7EXAMPLE", "a secret nobody prints")
LARGE = os.urandom(5 * CHUNK_BYTES + 3)
OBJECTS, READ = "/repositories/repo/branches/main/objects", "/repositories/repo/refs/main/objects"


@dataclass
class Server:
    root: Path
    process: "subprocess.Popen[str]"
    http: httpx.Client

    def put(self, key: str, content: bytes = LARGE) -> Path:
        self.http.post(OBJECTS, params={"path": key}, content=content).raise_for_status()
        return blob_path(self.root, sha256(content).hexdigest())

    def get(self, key: str, asked: str = "") -> httpx.Response:
        headers = {"Range": asked} if asked else {}
        return self.http.get(READ, params={"path": key}, headers=headers)

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("transfer") / "lake"
    process = subprocess.Popen(
        [sys.executable, "-m", "storage.embedded", "--root", str(root), "--port", "0"],
        env={**os.environ, "LAKEFS_ACCESS_KEY_ID": AUTH[0], "LAKEFS_SECRET_ACCESS_KEY": AUTH[1]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = process.stdout.readline().split()[-1]
    with httpx.Client(base_url=f"{url}/api/v1", auth=AUTH, timeout=30) as http:
        made = {"name": "repo", "storage_namespace": "local://repo"}
        http.post("/repositories", json=made).raise_for_status()
        yield Server(root, process, http)
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, len(LARGE)])
def test_an_object_comes_back_as_it_went(server, size):
    server.put("k", LARGE[:size])
    assert server.get("k").content == LARGE[:size]


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 0), (1, len(LARGE) - 1), (CHUNK_BYTES - 1, 3 * CHUNK_BYTES), (3, 2 * CHUNK_BYTES + 2)],
)
def test_a_long_range_is_what_slicing_gives(server, first, last):
    server.put("ranged")
    found = server.get("ranged", f"bytes={first}-{last}")
    assert (found.status_code, found.content) == (206, LARGE[first : last + 1])
    assert found.headers["content-range"] == f"bytes {first}-{last}/{len(LARGE)}"


def test_a_large_damaged_object_never_ends(server):
    content = os.urandom(3 * CHUNK_BYTES)
    blob = server.put("damaged", content)
    with blob.open("r+b") as file:
        file.seek(CHUNK_BYTES)
        file.write(b"not it")
    with pytest.raises(httpx.RemoteProtocolError):
        server.get("damaged")
    # A range does not show whether the whole is sound, and the server goes on.
    assert server.get("damaged", "bytes=0-9").content == content[:10]


def test_a_small_damaged_object_is_named(server):
    blob = server.put("small", b"what was written")
    blob.write_bytes(b"what was changed")
    found = server.get("small")
    assert found.status_code == 500
    assert "small cannot be read" in found.json()["message"]


def test_a_client_that_leaves_in_the_middle_takes_nothing_with_it(server):
    server.put("left")
    server.get("left")
    before = server.descriptors()
    for _ in range(5):
        with server.http.stream("GET", READ, params={"path": "left"}) as answer:
            next(answer.iter_raw(1000))
    assert server.get("left").content == LARGE
    wait_until(lambda: server.descriptors() <= before + 1)


def test_an_upload_that_is_given_up_leaves_no_file(server):
    host, _, port = server.http.base_url.netloc.decode().partition(":")
    request = server.http.build_request("POST", OBJECTS, params={"path": "never"}, content=b"x")
    basic = next(server.http.auth.auth_flow(request)).headers["authorization"]
    head = (
        f"POST {request.url.raw_path.decode()} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic}\r\n"
        f"Content-Length: {len(LARGE)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + LARGE[: 3 * CHUNK_BYTES])
        wait_until(lambda: any((server.root / "incoming").iterdir()))
    wait_until(lambda: not any((server.root / "incoming").iterdir()))
    assert server.get("never").status_code == 404


@pytest.mark.parametrize("size", [100, BESIDE_BYTES - 1, BESIDE_BYTES, 3 * BESIDE_BYTES + 7])
def test_digests_do_not_depend_on_how_a_body_was_cut(kept, size):
    content = LARGE[: 2 * CHUNK_BYTES]
    incoming = kept.lake.blobs.receive()
    for at in range(0, len(content), size):
        incoming.write(content[at : at + size])
    written = kept.lake.blobs.keep(incoming)
    assert written.digest == sha256(content).hexdigest()
    assert written.md5 == md5(content).hexdigest()


async def test_a_client_that_stops_reading_is_noticed_and_let_go():
    moves, gone = [], []
    outlet = Outlet(lambda *, moved: moves.append(moved), lambda: bool(gone))
    with file_of(LARGE) as file, pair() as (ours, theirs):
        pouring = asyncio.create_task(outlet.pour(ours.fileno(), FilePart(file, 0, len(LARGE))))
        while not moves or moves[-1]:
            await asyncio.sleep(0)
        # It took some; then it took no more.
        assert moves[0]
        read = theirs.recv(1 << 20)
        assert LARGE.startswith(read)
        gone.append(True)
        outlet.wake()
        with pytest.raises(ConnectionResetError):
            await pouring


async def test_a_slow_client_gets_every_byte_even_where_files_cannot_be_sent(monkeypatch):
    def unsupported(*_: object) -> int:
        raise OSError(errno.EINVAL, "no")

    for change in (lambda: None, lambda: monkeypatch.setattr(os, "sendfile", unsupported)):
        change()
        with file_of(LARGE) as file, pair() as (ours, theirs):
            outlet = Outlet(lambda *, moved: None, lambda: False)
            part = FilePart(file, 7, len(LARGE) - 7)
            pouring = asyncio.create_task(outlet.pour(ours.fileno(), part))
            found = bytearray()
            while len(found) < len(part):
                found += await asyncio.get_running_loop().sock_recv(theirs, 50_000)
            await pouring
            assert found == LARGE[7:-7]


async def test_a_file_that_shrank_is_an_error_and_no_endless_loop():
    outlet = Outlet(lambda *, moved: None, lambda: False)
    with file_of(b"short") as file, pair() as (ours, _), pytest.raises(OSError, match="shorter"):
        await outlet.pour(ours.fileno(), FilePart(file, 0, 9))


@contextmanager
def file_of(content: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def wait_until(holds) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.05)


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_slicing_gives(size, first, last):
    content = bytes(range(size))
    if first >= size or last < first:
        with pytest.raises(Refused):
            parse_range(f"bytes={first}-{last}", size)
        return
    span = parse_range(f"bytes={first}-{last}", size)
    assert content[span.start : span.stop] == content[first : last + 1]
    assert parse_range(f"bytes={first}-", size) == Span(first, size)


def test_an_empty_object_has_no_ranges():
    for asked in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(BadRange):
            parse_range(asked, 0)


@pytest.mark.parametrize("header", ["bytes=%s-", "bytes=0-%s", "bytes=-%s"])
def test_a_range_of_thousands_of_digits_is_malformed(header):
    """Found by fuzzing: int() raised a ValueError of its own."""
    with pytest.raises(Refused, match="invalid range"):
        parse_range(header % ("9" * 5000), 100)
