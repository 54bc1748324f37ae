"""The server as a process: how it starts, refuses to start, drains and dies."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

KEY = ("AKIAIOSFODNN7EXAMPLE", "secret")
ENV = {**os.environ, "LAKEFS_ACCESS_KEY_ID": KEY[0], "LAKEFS_SECRET_ACCESS_KEY": KEY[1]}


def start(root: Path, *more: str, env: dict[str, str] = ENV) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "storage.embedded", "--root", str(root), "--port", "0", *more]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def client(process: subprocess.Popen[str]) -> httpx.Client:
    url = process.stdout.readline().split()[-1]
    return httpx.Client(base_url=f"{url}/api/v1", auth=KEY, timeout=30)


def answer_error(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    return err.splitlines()


def test_without_a_credential_it_says_which_variable_is_missing(tmp_path):
    env = {name: value for name, value in ENV.items() if name != "LAKEFS_SECRET_ACCESS_KEY"}
    problem, remedy = answer_error(start(tmp_path, env=env))
    assert "LAKEFS_SECRET_ACCESS_KEY" in problem
    assert remedy


def test_a_port_in_use_is_said_in_two_lines(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        problem, remedy = answer_error(start(tmp_path, "--port", port))
    assert port in problem
    assert "--port" in remedy


def test_a_folder_that_cannot_be_written_is_said_in_two_lines(tmp_path):
    (tmp_path / "file").write_text("in the way")
    problem, remedy = answer_error(start(tmp_path / "file" / "lake"))
    assert "cannot write to" in problem
    assert "--root" in remedy


@pytest.mark.parametrize("name", ["blobs", "graph.sqlite"])
def test_a_lake_that_cannot_be_opened_is_said_in_two_lines(tmp_path, name):
    lake = tmp_path / "lake"
    lake.mkdir()
    if name == "blobs":
        (lake / name).write_text("in the way")
    else:
        (lake / name).mkdir()
    problem, remedy = answer_error(start(lake))
    assert f"cannot open the lake in {lake}" in problem
    assert remedy


def test_a_first_key_that_still_lies_there_is_not_overwritten(tmp_path):
    told = tmp_path / "lake.first-key.json"
    told.write_text("an earlier key")
    env = {name: value for name, value in ENV.items() if not name.startswith("LAKEFS_")}
    problem, remedy = answer_error(start(tmp_path / "lake", env=env))
    assert str(told) in problem
    assert "remove it" in remedy
    assert told.read_text() == "an earlier key"


def test_a_damaged_graph_is_refused_at_boot(tmp_path):
    with sqlite3.connect(tmp_path / "graph.sqlite") as other:
        other.execute("PRAGMA user_version = 99")
    problem, remedy = answer_error(start(tmp_path))
    assert "schema version 99" in problem
    assert "backup" in remedy


def new_repository(http: httpx.Client) -> None:
    body = {"name": "repo", "storage_namespace": "local://repo"}
    assert http.post("/repositories", json=body).status_code == 201


OBJECTS = "/repositories/repo/branches/main/objects"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_upload_under_way_finish(tmp_path, number):
    process = start(tmp_path)
    with client(process) as http:
        new_repository(http)
        begun = threading.Event()

        def slowly():
            yield b"first"
            begun.set()
            time.sleep(1)
            yield b"second"

        answers = []

        def upload():
            answers.append(http.post(OBJECTS, params={"path": "key"}, content=slowly()))

        thread = threading.Thread(target=upload)
        thread.start()
        begun.wait(10)
        time.sleep(0.2)
        process.send_signal(number)
        thread.join(30)
        assert answers[0].status_code == 201
    assert process.wait(30) == 0


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    process = start(tmp_path)
    acknowledged: list[str] = []
    commits: list[str] = []
    with client(process) as http:
        new_repository(http)

        def write():
            try:
                for number in range(100_000):
                    key = f"key-{number:06}"
                    answer = http.post(OBJECTS, params={"path": key}, content=key.encode() * 100)
                    if answer.status_code == 201:
                        acknowledged.append(key)
                    if number % 10 == 9:
                        made = http.post(
                            "/repositories/repo/branches/main/commits", json={"message": "m"}
                        )
                        commits.append(made.json()["id"])
            except httpx.HTTPError:
                return

        thread = threading.Thread(target=write)
        thread.start()
        while len(acknowledged) < 60:
            time.sleep(0.01)
        process.kill()
        thread.join(30)
    process.wait(30)
    again = start(tmp_path)
    with client(again) as http:
        for key in acknowledged:
            found = http.get("/repositories/repo/refs/main/objects", params={"path": key})
            assert (found.status_code, found.content) == (200, key.encode() * 100)
        for commit in commits:
            assert http.get(f"/repositories/repo/commits/{commit}").status_code == 200
    again.terminate()
    assert again.wait(30) == 0


def test_a_refused_upload_leaves_the_connection_usable(tmp_path):
    process = start(tmp_path)
    with client(process) as http:
        new_repository(http)
        for _ in range(5):
            body = b"x" * 300_000
            gone = http.post(OBJECTS.replace("main", "nope"), params={"path": "k"}, content=body)
            assert gone.status_code == 404
            assert http.get("/repositories/repo").status_code == 200
    process.terminate()
    assert process.wait(30) == 0


def test_memory_stays_bounded_while_a_large_object_passes(tmp_path):
    process = start(tmp_path)
    with client(process) as http:
        new_repository(http)
        http.post(OBJECTS, params={"path": "warm"}, content=b"x" * (4 << 20))
        before = peak_kib(process.pid)
        chunk = os.urandom(1 << 20)

        def body():
            for _ in range(192):
                yield chunk

        assert http.post(OBJECTS, params={"path": "k"}, content=body()).status_code == 201
        with http.stream(
            "GET", "/repositories/repo/refs/main/objects", params={"path": "k"}
        ) as got:
            assert sum(len(part) for part in got.iter_bytes()) == 192 << 20
        assert peak_kib(process.pid) - before < 48 << 10
    process.terminate()
    assert process.wait(30) == 0


def peak_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")
