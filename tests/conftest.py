"""A lake for every test that needs one: the embedded server, or the real one that is named.

`LAKEFS_ENDPOINT`, `LAKEFS_ACCESS_KEY_ID` and `LAKEFS_SECRET_ACCESS_KEY` point the same tests at
a real lakeFS.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from storage.lake import Lake
from storage.lake.client import Access

# How long an example takes tells how busy the machine is, not whether the code is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

KEY, SECRET = "AKIAHEADRACETESTS", "not-a-secret-only-for-tests"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(url: str, *, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer (process: {process.poll()})")


@pytest.fixture(scope="session")
def lake_access(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    if endpoint := os.environ.get("LAKEFS_ENDPOINT"):
        yield Access(
            endpoint, os.environ["LAKEFS_ACCESS_KEY_ID"], os.environ["LAKEFS_SECRET_ACCESS_KEY"]
        )
        return
    root, port = tmp_path_factory.mktemp("lake"), free_port()
    process = start_embedded(root, port)
    yield Access(f"http://127.0.0.1:{port}", KEY, SECRET)
    process.terminate()
    process.wait(20)


def start_embedded(root: Path, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "LAKEFS_ACCESS_KEY_ID": KEY,
        "LAKEFS_SECRET_ACCESS_KEY": SECRET,
    }
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "storage.embedded",
            "--root",
            str(root),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        env=environment,
    )
    wait_for(f"http://127.0.0.1:{port}/api/v1/healthcheck", process=process)
    return process


@pytest.fixture
def lake(lake_access: Access) -> Lake:
    return Lake(lake_access)


@pytest.fixture
def repo(lake: Lake) -> str:
    """A pipeline's two repositories under a name of their own."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(name)
    return name
