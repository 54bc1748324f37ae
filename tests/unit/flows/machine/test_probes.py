import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from socket import socket

import pytest

from flows.machine.probes import answers, is_listening, port_taken, worker_polls
from tests.unit.flows.machine.conftest import FakePrefect, free_port


def test_a_port_is_its_listeners_and_nobody_elses() -> None:
    with socket() as ours:
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        # Bound is taken, but nobody answers yet.
        assert port_taken(port)
        assert not is_listening(os.getpid(), port)
        ours.listen()
        assert port_taken(port)
        assert is_listening(os.getpid(), port)
        assert not is_listening(os.getppid(), port)
    assert not port_taken(port)
    assert not is_listening(os.getpid(), port)


def test_a_process_that_is_gone_listens_nowhere() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not is_listening(process.pid, free_port())


def test_a_connection_to_a_port_is_not_listening_on_it(prefect: FakePrefect) -> None:
    port = int(prefect.address.rpartition(":")[2])
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "print('on', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"on\n"
        assert not is_listening(client.pid, port)
        client.kill()


def test_a_server_answers_and_a_free_port_does_not(prefect: FakePrefect) -> None:
    assert answers(f"{prefect.address}/health")
    assert not answers(f"http://127.0.0.1:{free_port()}/health")


@pytest.mark.parametrize(
    ("name", "age_s", "polls"), [("ours", 0, True), ("ours", 60, False), ("theirs", 0, False)]
)
def test_a_worker_counts_once_it_reported_after_its_start(
    prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch, name: str, age_s: int, polls: bool
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    seen = (start - timedelta(seconds=age_s)).isoformat()
    workers = [
        {"name": name, "last_heartbeat_time": seen},
        {"name": "x", "last_heartbeat_time": None},
    ]
    monkeypatch.setattr(prefect, "answer", lambda path, body: workers)
    assert worker_polls(f"{prefect.address}/api", "local", "ours", since=start) is polls


def test_a_server_that_is_no_prefect_has_no_worker(prefect: FakePrefect) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert not worker_polls(f"http://127.0.0.1:{free_port()}/api", "local", "ours", since=start)
