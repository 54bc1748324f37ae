"""Disks that fill up, fail to sync or flip bits: what the server answers, and what comes after."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

MAIN = "/repositories/repo/branches/main"
READ = "/repositories/repo/refs/main/objects"


def upload(http: httpx.Client, path: str, content: bytes) -> httpx.Response:
    return http.post(f"{MAIN}/objects", params={"path": path}, content=content)


def content(http: httpx.Client, path: str) -> bytes:
    found = http.get(READ, params={"path": path})
    assert found.status_code == 200, found.text
    return found.content


def filled(http: httpx.Client) -> None:
    body = {"name": "repo", "storage_namespace": "local://repo"}
    assert http.post("/repositories", json=body).status_code == 201
    assert upload(http, "before", b"before").status_code == 201
    assert http.post(f"{MAIN}/commits", json={"message": "m"}).status_code == 201


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_a_failed_sync_makes_the_lake_read_only_until_a_restart_that_checks_it(store, call):
    store.start()
    with store.client() as http:
        filled(http)
        tracer = store.attach("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when=1")
        failed = upload(http, "lost", b"lost")
        assert failed.status_code == 503
        assert "read-only" in failed.json()["message"]
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
        for answer in (
            upload(http, "later", b"later"),
            http.post(f"{MAIN}/commits", json={"message": "m", "allow_empty": True}),
            http.post("/repositories/repo/branches", json={"name": "b", "source": "main"}),
            http.delete(f"{MAIN}/objects", params={"path": "before"}),
        ):
            assert answer.status_code == 503
            assert "failed to sync" in answer.json()["message"]
        assert content(http, "before") == b"before"
    assert (store.root / "suspect").exists()
    store.stop()
    store.start()
    with store.client() as http:
        assert content(http, "before") == b"before"
        assert upload(http, "later", b"later").status_code == 201
        assert http.get(READ, params={"path": "lost"}).status_code in (200, 404)
    assert not (store.root / "suspect").exists()


@pytest.mark.parametrize("call", ["write", "pwrite64"])
def test_a_full_disk_answers_507_and_writes_resume_when_there_is_space(store, call):
    store.start()
    with store.client() as http:
        filled(http)
        injected = f"inject={call}:error=ENOSPC:when=1+"
        tracer = store.attach("-e", f"trace={call}", "-e", injected)
        for _ in range(3):
            full = upload(http, "big", b"x" * 3_000_000)
            assert full.status_code == 507
            assert "no space left" in full.json()["message"]
        assert content(http, "before") == b"before"
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
        assert upload(http, "big", b"x" * 3_000_000).status_code == 201
        assert http.post(f"{MAIN}/commits", json={"message": "m"}).status_code == 201
    store.stop()
    assert list((store.root / "incoming").iterdir()) == []


@pytest.fixture
def small_disk(store, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=12m", "tmpfs"]
    if subprocess.run(["mount", *options, disk], check=False, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    store.root = disk / "lake"
    yield disk
    store.stop()
    subprocess.run(["umount", disk], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass


def test_a_really_full_disk_answers_507_and_writes_resume_when_there_is_space(small_disk, store):
    store.start()
    with store.client() as http:
        filled(http)
        fill(small_disk / "ballast")
        statuses = {upload(http, f"k{n}", os.urandom(200_000)).status_code for n in range(3)}
        statuses |= {upload(http, f"s{n}", b"").status_code for n in range(30)}
        assert 507 in statuses
        assert statuses <= {201, 507}
        assert content(http, "before") == b"before"
        assert http.get("/repositories/repo/refs/main/objects/ls").status_code == 200
        (small_disk / "ballast").unlink()
        assert upload(http, "after", os.urandom(200_000)).status_code == 201
        assert http.post(f"{MAIN}/commits", json={"message": "m"}).status_code == 201


@pytest.mark.parametrize("size", [1_000, 3_000_000])
def test_a_flipped_bit_never_reaches_a_reader_as_a_whole_object(store, size):
    written = os.urandom(size)
    store.start()
    with store.client() as http:
        filled(http)
        assert upload(http, "rotten", written).status_code == 201
        blob = next(p for p in (store.root / "blobs").glob("*/*") if p.stat().st_size == size)
        rotten = bytearray(written)
        rotten[size // 2] ^= 1
        blob.write_bytes(rotten)
        try:
            found = http.get(READ, params={"path": "rotten"})
        except httpx.RemoteProtocolError:
            pass  # cut off before its end
        else:
            assert found.status_code == 500
            assert "rotten" in found.json()["message"]
        assert content(http, "before") == b"before"
