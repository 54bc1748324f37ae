"""The embedded lakeFS as a process that is broken on purpose, and what must stand afterwards."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.embedded.graph.objects import list_objects
from storage.embedded.graph.paging import KeyWindow
from storage.embedded.graph.version_graph import View
from storage.embedded.lake import EmbeddedLake
from storage.embedded.upkeep.boot import open_sound
from storage.embedded.upkeep.check import check
from storage.embedded.upkeep.reach import list_refs

ADMIN = ("AKIAHEADRACETESTS", "not-a-secret-only-for-tests")
CONTENT_A, CONTENT_B = b"a" * 70_000, b"b" * 300
NAMESPACE = {"name": "repo", "storage_namespace": "local://repo"}
MAIN, SIDE = "/repositories/repo/branches/main", "/repositories/repo/branches/side"
STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/repositories", {"json": NAMESPACE}),
    ("POST", f"{MAIN}/objects", {"params": {"path": "a"}, "content": CONTENT_A}),
    ("POST", f"{MAIN}/commits", {"json": {"message": "one"}}),
    ("POST", "/repositories/repo/branches", {"json": {"name": "side", "source": "main"}}),
    ("POST", f"{SIDE}/objects", {"params": {"path": "b"}, "content": CONTENT_B}),
    ("POST", f"{SIDE}/commits", {"json": {"message": "two"}}),
    ("POST", "/repositories/repo/refs/side/merge/main", {"json": {}}),
    ("DELETE", f"{SIDE}/objects", {"params": {"path": "a"}}),
)
"""What the store is asked, one after the other."""
_A, _AB, _B = {"a": CONTENT_A}, {"a": CONTENT_A, "b": CONTENT_B}, {"b": CONTENT_B}
# What a reader sees after so many steps: per ref, with and without uncommitted data.
STATES: tuple[dict[str, dict[str, bytes]], ...] = (
    {},
    {"main@": {}, "main": {}},
    {"main@": {}, "main": _A},
    {"main@": _A, "main": _A},
    {"main@": _A, "main": _A, "side@": _A, "side": _A},
    {"main@": _A, "main": _A, "side@": _A, "side": _AB},
    {"main@": _A, "main": _A, "side@": _AB, "side": _AB},
    {"main@": _AB, "main": _AB, "side@": _AB, "side": _AB},
    {"main@": _AB, "main": _AB, "side@": _AB, "side": _B},
)


@dataclass
class Store:
    """The embedded server as a process on one folder, and what the folder holds without it."""

    root: Path
    process: "subprocess.Popen[str] | None" = None
    url: str = ""

    def start(self, *before: str) -> None:
        command = [sys.executable, "-m", "storage.embedded", "--root", str(self.root)]
        names = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
        self.process = subprocess.Popen(
            [*before, *command, "--port", "0"],
            env={**os.environ, **dict(zip(names, ADMIN, strict=True))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.url = line.split()[-1]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", auth=ADMIN, timeout=60)

    def attach(self, *options: str) -> "subprocess.Popen[str]":
        """Break system calls of the running server with strace, in all its threads."""
        assert self.process is not None
        command = ["strace", "-f", "-o", "/dev/null", *options, "-p", str(self.process.pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        return tracer

    def run_steps(self, first: int = 0) -> int:
        """Do the steps until the server is gone; how many were acknowledged."""
        with self.client() as http:
            for number in range(first, len(STEPS)):
                method, path, more = STEPS[number]
                try:
                    answer = http.request(method, path, **more)
                except httpx.HTTPError:
                    return number
                assert answer.is_success, answer.text
        return len(STEPS)

    def stop(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
            self.process.communicate(timeout=60)
        self.process = None

    def end_inside_strace(self) -> None:
        """End the server that strace started; strace itself ignores being asked."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGTERM)
        self.process.communicate(timeout=60)
        self.process = None

    def killed(self) -> None:
        """Wait until the injected signal has taken the server away."""
        assert self.process is not None
        self.process.communicate(timeout=60)
        self.process = None


def standing(root: Path) -> dict[str, dict[str, bytes]]:
    """Everything that readers of the store would see, opened as a start opens it."""
    lake = open_sound(root)
    try:
        return lake.read(lambda view: _shown(lake, view))
    finally:
        lake.close()


def _shown(lake: EmbeddedLake, view: View) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for ref in list_refs(view.rows):
        for name in (ref.name, f"{ref.name}@"):
            page = list_objects(view, "repo", name, KeyWindow())
            found[name] = {
                key: b"".join(lake.blobs.read(value.digest, value.size, 0, value.size))
                for key, value in page.results
            }
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    made = Store(tmp_path / "lake")
    yield made
    made.stop()


@pytest.fixture
def assert_acknowledged() -> Callable[[Path, int], int]:
    """Check a store that lost its server: the acknowledged is there, the rest whole or absent.

    Returns how many steps the store stands at.
    """

    def check_all(root: Path, acknowledged: int) -> int:
        found = standing(root)
        allowed = STATES[acknowledged : acknowledged + 2]
        assert found in allowed, (acknowledged, {ref: sorted(keys) for ref, keys in found.items()})
        report = check(root, deep=True)
        assert report.is_sound, report.problems
        return acknowledged + allowed.index(found)

    return check_all
