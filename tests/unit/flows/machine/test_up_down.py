"""What `up` and `down` may touch. Real services are in tests/e2e/test_up_down.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.machine.process_records import ProcessRecord, ProcessRecords
from flows.machine.processes import find
from flows.machine.services import PREFECT, local_services
from flows.machine.up_down import down, status, up
from flows.settings import Settings
from tests.unit.flows.machine.conftest import FakePrefect
from tests.unit.flows.machine.test_dead_runs import run

LISTEN = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        print(self.path, self.rfile.read(length).decode(), flush=True)
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"[]")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"""


def on_its_port(settings: Settings, foreign: FakePrefect) -> Settings:
    """An installation whose Prefect would be where another's listens."""
    foreign.runs = [run("of another checkout")]
    port = int(foreign.address.rpartition(":")[2])
    return settings.model_copy(update={"prefect_port": port})


def record(settings: Settings, pid: int, address: str) -> ProcessRecord:
    (service,) = (s for s in local_services(settings) if s.name == PREFECT)
    process = find(pid)
    assert process is not None
    return ProcessRecord(PREFECT, pid, process.birth, "2026-01-01", address, service.fingerprint, 0)


def test_down_of_an_empty_project_leaves_a_foreign_server_alone(
    settings: Settings, prefect: FakePrefect
) -> None:
    down(on_its_port(settings, prefect))
    assert prefect.asked == []


def test_the_command_line_leaves_a_foreign_server_alone(
    tmp_path: Path, prefect: FakePrefect
) -> None:
    prefect.runs = [run("of another checkout")]
    (tmp_path / "prefect.yaml").touch()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "LAKEFS_"))}
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "down"],
        cwd=tmp_path,
        env=kept | {"HEADRACE_PREFECT_PORT": prefect.address.rpartition(":")[2]},
        check=True,
    )
    assert prefect.asked == []


def test_a_live_process_of_ours_does_not_make_a_foreign_server_ours(
    settings: Settings, prefect: FakePrefect
) -> None:
    ours = on_its_port(settings, prefect)
    # Ours was started and lives, but it is not what listens on the port.
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        ProcessRecords(ours.home).write(record(ours, process.pid, prefect.address))
        down(ours)
    assert prefect.asked == []
    assert ProcessRecords(ours.home).read(PREFECT) is None


def test_down_settles_the_runs_of_its_own_server_wherever_the_settings_point(
    settings: Settings, prefect: FakePrefect
) -> None:
    ours = on_its_port(settings, prefect)
    command = [sys.executable, "-c", LISTEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        own = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        ProcessRecords(ours.home).write(record(ours, process.pid, own))
        down(ours)
        assert process.stdout.readline().startswith("/api/flow_runs/filter")
    assert prefect.asked == []


def test_a_worker_is_not_started_against_a_foreign_server(
    settings: Settings, prefect: FakePrefect
) -> None:
    ours = on_its_port(settings, prefect)
    with pytest.raises(Misconfigured, match="the worker needs the prefect of this project"):
        up(ours, ["worker"])
    assert prefect.asked == []
    assert {one.state for one in status(ours)} == {"stopped"}


def test_a_service_that_is_not_there_is_named(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="there is no service nonsense") as caught:
        up(settings, ["nonsense"])
    assert caught.value.remedy == "choose from lake, prefect, worker, service"
