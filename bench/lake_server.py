"""Servers for bench/lake.py: an embedded one that is filled and started, and the real lakeFS."""

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlsplit

from storage.embedded.graph import heads, repositories
from storage.embedded.graph.heads import Message
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.graph.staging import stage
from storage.embedded.lake import EmbeddedLake

KEY, SECRET = "AKIAHEADRACEBENCH", "only-for-a-benchmark"
REPOSITORY = "bench"
SAID = Message("bench", "bench")
BLOCK_BYTES = 1 << 20
BLOBS = 64
# The server closes a connection that is idle for five seconds.
IDLE_S = 4


class Server:
    """REST calls over one kept connection a thread; as little client as Python has."""

    def __init__(self, url: str, key: str, secret: str, repository: str, pid: int = 0) -> None:
        self.host, self.repository, self.pid = urlsplit(url).netloc, repository, pid
        self._basic = base64.b64encode(f"{key}:{secret}".encode()).decode()
        self._local = threading.local()

    def call(self, method: str, path: str, body: object = None, **query: str) -> bytes:
        """A request with a JSON body, within the repository."""
        raw = None if body is None else json.dumps(body).encode()
        return self._answer(method, self._path(path, query), raw, "application/json").read()

    def put(self, branch: str, key: str, body: object) -> None:
        """Upload bytes, or an open file."""
        path = self._path(f"/branches/{branch}/objects", {"path": key})
        self._answer("POST", path, body, "application/octet-stream").read()

    def get(self, key: str, into: Path | None = None, ref: str = "main") -> None:
        """Read an object to its end, into a file or away."""
        answer = self._answer("GET", self._path(f"/refs/{ref}/objects", {"path": key}), None, "")
        block = memoryview(bytearray(BLOCK_BYTES))
        with (into or Path(os.devnull)).open("wb", buffering=0) as file:
            while size := answer.readinto(block):
                if into is not None:
                    file.write(block[:size])

    def make(self) -> None:
        """Its repository."""
        made = {"name": self.repository, "storage_namespace": f"local://{self.repository}"}
        body = json.dumps(made).encode()
        self._answer("POST", "/api/v1/repositories", body, "application/json").read()

    def peak_mib(self) -> float:
        """The most memory that the process had so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def _path(self, path: str, query: dict[str, str]) -> str:
        told = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"/api/v1/repositories/{self.repository}{path}{'?' if told else ''}{told}"

    def _answer(
        self, method: str, path: str, body: object, content_type: str
    ) -> http.client.HTTPResponse:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(
                self.host, timeout=600, blocksize=BLOCK_BYTES
            )
            self._local.used = time.monotonic()
        if time.monotonic() - self._local.used > IDLE_S:
            self._local.connection.close()
        headers = {"Authorization": f"Basic {self._basic}"}
        if body is not None:
            headers["Content-Type"] = content_type
        if hasattr(body, "fileno"):
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        self._local.connection.request(method, path, body, headers)
        answer = self._local.connection.getresponse()
        self._local.used = time.monotonic()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.read()[:200]!r}")
        return answer


@contextmanager
def serving(root: Path) -> Iterator[tuple[Server, float]]:
    """The embedded lakeFS on this folder, and how many seconds it took to start."""
    command = [sys.executable, "-m", "storage.embedded", "--root", str(root), "--port", "0"]
    keys = {"LAKEFS_ACCESS_KEY_ID": KEY, "LAKEFS_SECRET_ACCESS_KEY": SECRET}
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **keys}, stdout=subprocess.PIPE, text=True
    )
    url = process.stdout.readline().split()[-1]  # type: ignore[union-attr]
    try:
        yield Server(url, KEY, SECRET, REPOSITORY, process.pid), time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(60)


def real() -> Server | None:
    """The lakeFS that LAKEFS_ENDPOINT names, with a repository for this run; None without one."""
    if not (url := os.environ.get("LAKEFS_ENDPOINT")):
        return None
    keys = os.environ["LAKEFS_ACCESS_KEY_ID"], os.environ["LAKEFS_SECRET_ACCESS_KEY"]
    server = Server(url, *keys, f"{REPOSITORY}-{os.getpid()}-{time.monotonic_ns()}")
    server.make()
    return server


def prepare(root: Path, size: int) -> None:
    """A repository with `size` committed keys, made below the HTTP surface.

    They share a few real blobs: what is measured is the graph, and boot looks for the bytes.
    """
    lake = EmbeddedLake(root)
    lake.write(
        lambda view: repositories.create_repository(
            view.rows, REPOSITORY, f"local://{REPOSITORY}", "main", read_only=False
        )
    )
    shared = [kept(lake, number) for number in range(min(size, BLOBS))]

    def fill(view: object) -> None:
        for number in range(size):
            stage(view.rows, 1, f"data/{number:07}", shared[number % BLOBS])  # type: ignore[attr-defined]

    lake.write(fill)
    if size:
        heads.commit(lake, REPOSITORY, "main", SAID)
    lake.close()


def kept(lake: EmbeddedLake, number: int) -> ObjectEntry:
    """An entry whose bytes are there."""
    incoming = lake.blobs.receive()
    incoming.write(b"%d" % number)
    written = lake.blobs.keep(incoming)
    return made(number, written.digest, written.size)


def made(number: int, digest: str = "", size: int = 0) -> ObjectEntry:
    """An entry; without a digest its bytes are nowhere."""
    digest = digest or sha256(str(number).encode()).hexdigest()
    return make_entry(
        digest=digest,
        etag=digest[:32],
        size=size or number % 100_000,
        content_type="application/octet-stream",
        modified_s=1_700_000_000,
        metadata={},
    )
