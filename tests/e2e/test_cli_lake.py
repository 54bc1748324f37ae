"""`headrace lake ...` on a lake that runs and on one that does not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

KEY, SECRET = "AKIAHEADRACETESTS", "not-a-secret-only-for-tests"


@dataclass
class Machine:
    """A project folder with a lake in it."""

    root: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def lake(self) -> Path:
        return self.root / ".headrace" / "lake"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEFS_", "HEADRACE_"))}
        keys = {"LAKEFS_ACCESS_KEY_ID": KEY, "LAKEFS_SECRET_ACCESS_KEY": SECRET}
        port = {"HEADRACE_LAKE_PORT": str(self.port)} if self.port else {}
        return {**kept, **keys, **port, "HEADRACE_ROOT": str(self.root)}

    def start(self) -> httpx.Client:
        command = [sys.executable, "-m", "storage.embedded", "--root", str(self.lake)]
        self.process = subprocess.Popen(
            [*command, "--port", "0"], env=self.env, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        url = self.process.stdout.readline().split()[-1]
        self.port = int(url.rpartition(":")[2])
        return httpx.Client(base_url=f"{url}/api/v1", auth=(KEY, SECRET), timeout=60)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
        self.process = None

    def headrace(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "flows.cli", *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 or "--json" in words else done.stderr


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    (tmp_path / "prefect.yaml").write_text("")
    made = Machine(tmp_path)
    yield made
    made.stop()


BRANCH = "/repositories/repo/branches/main"


def fill(http: httpx.Client) -> str:
    body = {"name": "repo", "storage_namespace": "local://repo"}
    assert http.post("/repositories", json=body).status_code == 201
    for path, content in (("a", b"first"), ("b", b"second")):
        http.post(f"{BRANCH}/objects", params={"path": path}, content=content)
    return str(http.post(f"{BRANCH}/commits", json={"message": "m"}).json()["id"])


def test_a_running_lake_is_checked_backed_up_collected_and_restored(machine, tmp_path):
    with machine.start() as http:
        commit = fill(http)
        http.post("/repositories/repo/branches", json={"name": "side", "source": "main"})
        http.post(
            "/repositories/repo/branches/side/objects", params={"path": "c"}, content=b"garbage"
        )
        assert "is sound: 2 commits, 3 objects" in machine.headrace("lake", "check", "--deep")
        http.delete("/repositories/repo/branches/side")
        said = json.loads(machine.headrace("lake", "gc", "--dry-run", "--grace", "0", "--json"))
        assert (said["dry_run"], said["objects"]) == (True, 1)
        assert "objects" in machine.headrace("lake", "gc")
        made = json.loads(machine.headrace("lake", "backup", "--json"))
        assert made["objects"] == 2
        assert "serving" in machine.headrace("lake", "restore", made["folder"], code=1)
    machine.stop()
    assert "not empty" in machine.headrace("lake", "restore", made["folder"], code=1)
    machine.lake.rename(tmp_path / "moved away")
    machine.headrace("lake", "restore", made["folder"])
    with machine.start() as http:
        found = http.get(f"/repositories/repo/refs/{commit}/objects", params={"path": "a"})
        assert found.content == b"first"


def test_a_damaged_object_is_listed_and_the_exit_code_says_so(machine):
    with machine.start() as http:
        commit = fill(http)
    machine.stop()
    blob = next(p for p in (machine.lake / "blobs").glob("*/*") if p.read_bytes() == b"first")
    blob.write_bytes(b"tsrif")
    report = json.loads(machine.headrace("lake", "check", "--json", code=1))
    (problem,) = report["problems"]
    assert (problem["paths"], problem["commits"]) == (["repo/a"], [f"repo@{commit}"])


def test_a_lake_that_does_not_run_is_collected_here(machine):
    with machine.start() as http:
        fill(http)
        http.post(f"{BRANCH}/objects", params={"path": "a"}, content=b"overwritten")
        http.post(f"{BRANCH}/objects", params={"path": "a"}, content=b"third")
    machine.stop()
    done = json.loads(machine.headrace("lake", "gc", "--grace", "0", "--json"))
    assert (done["dry_run"], done["objects"]) == (False, 1)


def test_only_an_admin_key_may_collect(machine):
    with machine.start() as http:
        own = httpx.URL(f"http://127.0.0.1:{machine.port}/_headrace/gc")
        assert httpx.post(own, json={"dry_run": True}).status_code == 401
        assert httpx.post(own, json={"dry_run": True}, auth=(KEY, SECRET)).status_code == 200
        assert http.get("/repositories").status_code == 200


def test_a_lakefs_of_ones_own_is_not_kept_by_these(machine):
    env = {**machine.env, "LAKEFS_ENDPOINT": "http://example.invalid:8000"}
    command = [sys.executable, "-m", "flows.cli", "lake", "check"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "LAKEFS_ENDPOINT" in done.stderr
