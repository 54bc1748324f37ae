"""The prediction service as a process, against a lake, with really signed and sealed releases."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from flows import audit
from flows.pipeline import load_pipeline
from flows.tables import predictions_dataset
from storage import landing, registry
from storage.lake.client import Access
from tests.served_house import (
    ENVIRONMENT,
    House,
    flip_last_byte,
    house,
    strip_one_signature,
)
from tests.tiny_model import ROW

__all__ = ["house"]

ROOT = Path(__file__).parents[2]


@dataclass
class Running:
    """A service process and an HTTP client at it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    port: int
    stderr: Path

    def status(self) -> Any:
        return self.client.get("/status").json()

    def predict(self, *rows: dict[str, Any], **headers: str) -> httpx.Response:
        body = {"dataframe_records": list(rows) or [ROW]}
        return self.client.post("/invocations", json=body, headers=headers)

    def until(self, holds: Callable[[Any], Any], *, seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if holds(status):
                return status
            time.sleep(0.05)
        raise AssertionError(f"never came to hold: {status}\n{self.stderr.read_text()[-3000:]}")

    def serves(self, release: str) -> Any:
        return self.until(lambda s: s["serving"] and s["serving"]["release"] == release)


def surroundings(house: House, **more: str) -> dict[str, str]:
    access = house.lake.access
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{house.folder}",
        "HEADRACE_ROOT": str(house.folder),
        "HEADRACE_HOME": str(house.folder / "home"),
        "HEADRACE_PIPELINE": "tiny:pipeline",
        "HEADRACE_ENVIRONMENT": ENVIRONMENT,
        "LAKEFS_ENDPOINT": access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": access.secret_access_key,
        **more,
    }


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "flows.service", "--port", "0", *options]


@contextmanager
def service(house: House, *options: str, **environment: str) -> Iterator[Running]:
    stderr = house.folder / f"stderr-{secrets.token_hex(3)}"
    with stderr.open("w") as log:
        process = subprocess.Popen(
            command(*options),
            cwd=house.folder,
            env=surroundings(house, **environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, stderr.read_text()
        port = int(line.rsplit(":", 1)[1])
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            transport=httpx.HTTPTransport(retries=20),
            timeout=30,
        ) as client:
            yield Running(process, client, port, stderr)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(40)


def delivered(house: House) -> pl.DataFrame:
    """Every row that stands in a sealed batch of predictions."""
    pin = landing.take_stock(house.lake, house.name)
    frames = [
        pl.read_parquet(content)
        for batch in landing.batches(house.lake, pin, dataset="predictions")
        for content in landing.read(house.lake, batch).values()
    ]
    return pl.concat(frames)


def test_nothing_serves_before_a_release_is_verified_and_then_it_does(house: House) -> None:
    with service(house) as running:
        assert running.client.get("/health/live").status_code == 200
        waiting = running.predict()
        assert waiting.status_code == 503
        assert waiting.headers["retry-after"] == "1"
        assert running.client.get("/v2/health/ready").status_code == 503
        version = house.register(0.25)
        house.index(version)
        running.serves(f"{house.name}/1")
        answer = running.predict()
        assert answer.json()["predictions"] == [0.25]
        assert answer.json()["release"] == f"{house.name}/1"
        assert running.client.get("/v2/health/ready").status_code == 200


def test_a_swap_under_load_fails_no_request_and_each_answer_names_its_model(house: House) -> None:
    scores = {f"{house.name}/{house.register(s)}": s for s in (0.25, 0.5, 0.75)}
    house.index(1)
    seen: list[tuple[int, str, float]] = []
    failures: list[str] = []
    with service(house) as running:
        running.serves(f"{house.name}/1")
        done = threading.Event()

        def load() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
            headers = {"content-type": "application/json"}
            body = json.dumps({"dataframe_records": [ROW] * 3})
            while not done.is_set():
                connection.request("POST", "/invocations", body, headers)
                reply = connection.getresponse()
                answer = json.loads(reply.read())
                if reply.status != 200:
                    failures.append(str(answer))
                    continue
                seen.extend((reply.status, answer["release"], s) for s in answer["predictions"])

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in (2, 3, 1):
            house.index(version)
            running.serves(f"{house.name}/{version}")
            begun = len(seen)
            running.until(
                lambda _, release=f"{house.name}/{version}", begun=begun: any(
                    answered == release for _, answered, _ in seen[begun:]
                )
            )
        done.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert {release for _, release, _ in seen} == set(scores)
    assert all(score == scores[release] for _, release, score in seen)


@pytest.mark.parametrize(
    ("tamper", "step"),
    [
        (
            lambda folder: flip_last_byte(folder / "payload" / "model.onnx.sealed"),
            "release, step 9",
        ),
        (lambda folder: strip_one_signature(folder / "release.dsse.json"), "release, step 2"),
        (lambda folder: strip_one_signature(folder / "gates.dsse.json"), "release, step 6"),
    ],
)
def test_a_tampered_release_is_refused_and_the_one_before_keeps_serving(
    house: House, tamper: Callable[[Path], None], step: str
) -> None:
    good, bad = house.register(0.25), house.register(0.5, tamper=tamper)
    house.index(good)
    with service(house) as running:
        running.serves(f"{house.name}/{good}")
        house.index(bad)
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["release"] == f"{house.name}/{bad}"
        assert status["refused"]["step"] == step
        assert status["refused"]["index"] == 2
        assert status["serving"]["release"] == f"{house.name}/{good}"
        assert running.predict().json()["predictions"] == [0.25]
        assert "headrace_refused 1.0" in running.client.get("/metrics").text
        assert f"refused {house.name}/{bad}" in running.stderr.read_text()
        house.index(good)
        assert running.until(lambda s: s["refused"] is None)["index"]["number"] == 3


def test_what_the_service_refused_reaches_the_audit_log_once(house: House) -> None:
    good = house.register(0.25)
    bad = house.register(0.5, tamper=lambda folder: (folder / "card.md").write_text("# Forged\n"))
    house.index(good)
    with service(house) as running:
        running.serves(f"{house.name}/{good}")
        house.index(bad)
        running.until(lambda s: s["refused"])
        running.until(lambda _: audit.collect_events(house.lake, house.name))
        assert audit.collect_events(house.lake, house.name) == 0
    (told,) = audit.read_log(house.lake, registry.head(house.lake, house.name)).entries
    assert (told.kind, told.subject) == ("refused", f"models/{house.name}/{bad}")
    assert told.actor == f"prediction service of {ENVIRONMENT}"
    assert told.detail == {"step": "release, step 8", "problem": "Untrusted", "index": "2"}


def test_an_old_index_offered_again_is_refused_even_by_a_fresh_process(house: House) -> None:
    for score in (0.25, 0.5):
        house.index(house.register(score))
    with service(house) as running:
        running.serves(f"{house.name}/2")
    old = house.lake.fs.get(
        f"{house.name}-releases", "main", f"environments/{ENVIRONMENT}/index/1.json"
    )
    house.publish(lambda number, _: {f"{number}.json": old})
    with service(house) as running:
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["step"] == "index"
        assert "below the floor" in status["refused"]["reason"]
        assert status["serving"] is None
        assert running.predict().status_code == 503


def test_a_revoked_policy_keeps_the_loaded_model_and_raises_the_alarm(house: House) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        trust = house.keys / "trust.dsse.json"
        strip_one_signature(trust)
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["step"] == "policy"
        assert running.predict().json()["predictions"] == [0.25]


def test_predictions_survive_kill_9_and_land_as_the_predictions_table(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.index(house.register(0.25))
    rows = [{"carrier": c, "distance_mi": d} for c, d in (("AA", 1), ("ZZ", None), (None, 2.5))]
    keyed = [
        row | {"trip": f"trip-{i}", "at": "2013-07-01T12:00:00.5+02:00"}
        for i, row in enumerate(rows)
    ]
    with service(house, "--spool-idle-s", "600") as running:
        running.serves(f"{house.name}/1")
        for number in range(20):
            assert running.predict(*keyed, **{"x-request-id": f"r{number}"}).status_code == 200
        assert running.status()["predictions"] == {
            "accepted": 60, "spooled": 60, "delivered": 0, "lost": 0
        }  # fmt: skip
        assert running.status()["unknown_categories"] == {"carrier": 20}
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
    with service(house) as running:
        counts = running.until(lambda s: s["predictions"]["delivered"] == 60)["predictions"]
        assert counts == {"accepted": 60, "spooled": 0, "delivered": 60, "lost": 0}
    frame = delivered(house)
    monkeypatch.syspath_prepend(house.folder)
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    contract = predictions_dataset(load_pipeline("tiny:pipeline")).contract
    contract.validate(frame)
    assert frame.height == 60
    one = frame.filter(request_id="r7").sort("trip")
    assert one["distance_mi"].to_list() == [1.0, None, 2.5]
    assert one["carrier"].to_list() == ["AA", "ZZ", None]
    assert one["at"].unique().to_list() == [datetime(2013, 7, 1, 10, 0, 0, 500_000, tzinfo=UTC)]
    assert set(one["release"]) == {f"{house.name}/1"}


def test_a_lake_that_goes_away_stops_neither_serving_nor_the_count(
    house: House, lake_access: Access
) -> None:
    house.index(house.register(0.25))
    with (
        proxy(lake_access) as (endpoint, cut),
        service(house, "--spool-idle-s", "0.2", LAKEFS_ENDPOINT=endpoint) as running,
    ):
        running.serves(f"{house.name}/1")
        cut.set()
        running.until(lambda s: not s["lake"]["reachable"])
        for _ in range(10):
            assert running.predict().status_code == 200
        running.until(lambda _: "predictions stay in the spool" in running.stderr.read_text())
        counts = running.status()["predictions"]
        assert counts == {"accepted": 10, "spooled": 10, "delivered": 0, "lost": 0}
        cut.clear()
        running.until(lambda s: s["lake"]["reachable"])
        running.until(lambda s: s["predictions"]["delivered"] == 10)
    assert delivered(house).height == 10


def test_sigterm_answers_what_is_in_flight_and_hands_the_spool_over(house: House) -> None:
    house.index(house.register(0.25))
    with service(house, "--spool-idle-s", "600") as running:
        running.serves(f"{house.name}/1")
        body = json.dumps({"dataframe_records": [ROW] * 5000}).encode()
        head = (
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
            client.sendall(head)
            # The request is being answered as soon as its body is asked for.
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            client.sendall(body[:-1000])
            running.process.terminate()
            wait_until_nobody_listens(running.port)
            client.sendall(body[-1000:])
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        running.process.wait(60)
    assert delivered(house).height == 5000


def test_slow_clients_are_closed_while_others_are_served(house: House) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        starts = [
            b"POST /invoc",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        ]
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
        for number, client in enumerate(slow):
            client.sendall(starts[number % 2])
        assert running.predict().status_code == 200
        # Aborted: either an end of file or a reset, never an answer.
        assert [read_to_end(client) for client in slow] == [b""] * len(slow)
        assert running.predict().status_code == 200


@pytest.mark.parametrize("chunked", [True, False])
def test_an_oversized_body_is_refused_before_it_is_sent(house: House, chunked: bool) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        sent, reply = flood(running.port, chunked=chunked)
        assert reply.startswith(b"HTTP/1.1 413"), reply[:200]
        assert sent < 32 * 2**20
        assert running.predict().status_code == 200


def test_a_start_that_cannot_work_says_why_in_two_lines(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "address already in use" in refusal_to_start(house, "--port", port)
    absent = {"LAKEFS_ENDPOINT": "http://127.0.0.1:9"}
    assert "No answer from lakeFS" in refusal_to_start(house, **absent)
    (house.keys / "serving" / "x25519.pem").chmod(0o644)
    assert "can be read by others" in refusal_to_start(house)
    house.keys.rename(house.folder / "elsewhere")
    assert "there are no keys" in refusal_to_start(house)


def test_what_a_killed_process_left_decrypted_is_removed_at_the_next_start(house: House) -> None:
    left = house.folder / "home" / "serve" / ENVIRONMENT / "admit-left"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"plain")
    with service(house):
        assert not left.exists()


def refusal_to_start(house: House, *options: str, **environment: str) -> str:
    done = subprocess.run(
        command(*options),
        cwd=house.folder,
        env=surroundings(house, **environment),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    return lines[0]


def read_to_end(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection, as it should long before a minute."""
    client.settimeout(60)
    said = b""
    with client, suppress(ConnectionResetError):
        while data := client.recv(4096):
            said += data
    return said


def wait_until_nobody_listens(port: int) -> None:
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    raise AssertionError("the service went on listening")


def flood(port: int, *, chunked: bool) -> tuple[int, bytes]:
    """Send up to 64 MiB, as a client that ignores answers would; bytes sent and the answer."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    part, sent = b"[" * 65_536, 0
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % 2**26
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + length + b"\r\n\r\n")
        try:
            while sent < 2**26:
                frame = b"%x\r\n" % len(part) + part + b"\r\n" if chunked else part
                client.sendall(frame)
                sent += len(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
        try:
            return sent, client.recv(4096)
        except ConnectionResetError:
            return sent, b""


@contextmanager
def proxy(target: Access) -> Iterator[tuple[str, threading.Event]]:
    """A TCP relay in front of the lake; while the event is set it refuses everything."""
    host, port = target.endpoint.removeprefix("http://").rstrip("/").split(":")
    cut, listening = threading.Event(), socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    closing = threading.Event()

    def relay(source: socket.socket, sink: socket.socket) -> None:
        try:
            while not cut.is_set() and (data := source.recv(65_536)):
                sink.sendall(b"" if cut.is_set() else data)
        except OSError:
            pass
        for one in (source, sink):
            one.close()

    def accept() -> None:
        while not closing.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                # Nobody came within the timeout, or the test is over.
                continue
            if cut.is_set():
                client.close()
                continue
            upstream = socket.create_connection((host, int(port)))
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", cut
    finally:
        closing.set()
        listening.close()
