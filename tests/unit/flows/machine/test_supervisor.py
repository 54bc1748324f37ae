"""The supervisor on stand-in services: small programs that listen, spawn, hang or die."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from socket import socket

import pytest

from flows.errors import Misconfigured
from flows.machine.probes import answers, port_taken
from flows.machine.process_records import ProcessRecord
from flows.machine.processes import family, find, is_alive, wait_until
from flows.machine.services import Service
from flows.machine.supervisor import Supervisor

WEB = """
import http.server, signal, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
def bye(number, _):
    print("bye", number, flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, bye)
print("hello", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WEB.replace(
    "signal.signal(signal.SIGTERM, bye)", ""
)
PARENT = (
    """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
"""
    + WEB
)


@pytest.fixture
def port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def service(tmp_path: Path, port: int) -> Service:
    def ready(_: datetime) -> bool:
        return answers(f"http://127.0.0.1:{port}/")

    return Service(
        name="web",
        command=(sys.executable, "-c", WEB, str(port)),
        env={"HEADRACE_HOME": str(tmp_path)},
        folder=tmp_path,
        address=f"http://127.0.0.1:{port}",
        ready=ready,
        port=port,
        port_variable="HEADRACE_WEB_PORT",
        start_s=120.0,
        grace_s=3.0,
    )


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[Service], Supervisor]]:
    made: list[Supervisor] = []

    def make(service: Service) -> Supervisor:
        made.append(Supervisor(tmp_path, [service], tell=lambda _: None))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.stop("web")


def record_of(supervisor: Supervisor) -> ProcessRecord:
    record = supervisor.records.read("web")
    assert record is not None
    return record


def bring_up(supervisor: Supervisor) -> ProcessRecord:
    supervisor.start(supervisor.services)
    supervisor.wait_ready(supervisor.services)
    return record_of(supervisor)


def test_what_is_started_runs_and_is_reported(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(service)
    record = bring_up(supervisor)
    (status,) = supervisor.status()
    assert (status.state, status.pid, status.address) == ("running", record.pid, service.address)
    assert status.memory_bytes is not None
    assert status.memory_bytes > 1_000_000


def test_a_second_start_leaves_what_runs_alone(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(service)
    assert bring_up(supervisor) == bring_up(supervisor)


def test_a_service_outlives_no_stop_and_a_second_stop_is_fine(
    service: Service, supervise: Callable[[Service], Supervisor], tmp_path: Path
) -> None:
    supervisor = supervise(service)
    record = bring_up(supervisor)
    supervisor.stop("web")
    assert not record.alive
    supervisor.stop("web")
    assert supervisor.status()[0].state == "stopped"
    assert (tmp_path / "logs" / "web.log").read_text() == f"hello\nbye {signal.SIGTERM}\n"


def test_a_crashed_service_is_reported_and_started_again(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(service)
    first = bring_up(supervisor)
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.alive, seconds=60)
    assert supervisor.status()[0].state == "crashed"
    assert bring_up(supervisor).pid != first.pid


def test_changed_settings_restart_the_service(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    first = bring_up(supervise(service))
    changed = replace(service, env=dict(service.env) | {"HEADRACE_ENVIRONMENT": "staging"})
    second = bring_up(supervise(changed))
    assert second.pid != first.pid
    assert not first.alive


def test_a_service_that_ignores_the_signal_is_killed(
    service: Service, supervise: Callable[[Service], Supervisor], port: int
) -> None:
    command = (sys.executable, "-c", STUBBORN, str(port))
    supervisor = supervise(replace(service, command=command, grace_s=0.2))
    record = bring_up(supervisor)
    supervisor.stop("web")
    assert not record.alive


def test_children_go_with_their_service(
    service: Service, supervise: Callable[[Service], Supervisor], port: int
) -> None:
    supervisor = supervise(replace(service, command=(sys.executable, "-c", PARENT, str(port))))
    relatives = supervisor.relatives(bring_up(supervisor))
    assert len(relatives) == 2
    supervisor.stop("web")
    assert not any(is_alive(p.pid, p.birth) for p in relatives)


@pytest.mark.parametrize("hosts_runs", [True, False])
def test_a_crash_leaves_runs_to_finish_but_nothing_else(
    service: Service, supervise: Callable[[Service], Supervisor], port: int, hosts_runs: bool
) -> None:
    command = (sys.executable, "-c", PARENT, str(port))
    supervisor = supervise(replace(service, command=command, hosts_runs=hosts_runs))
    first = bring_up(supervisor)
    (child,) = (p for p in supervisor.relatives(first) if p.pid != first.pid)
    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.alive, seconds=60)
    second = bring_up(supervisor)
    assert is_alive(child.pid, child.birth) is hosts_runs
    assert second.orphans == ([(first.pid, first.birth)] if hosts_runs else [])
    supervisor.stop("web")
    assert not is_alive(child.pid, child.birth)


def test_a_stale_record_of_a_recycled_pid_harms_nobody(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(service)
    me = find(os.getpid())
    assert me is not None
    stale = ProcessRecord(
        "web", me.pid, "birth of another", "2026-01-01T00:00:00+00:00", "a", "f", 0
    )
    supervisor.records.write(stale)
    assert supervisor.status()[0].state == "crashed"
    supervisor.stop("web")
    assert supervisor.records.read("web") is None
    supervisor.records.write(stale)
    assert bring_up(supervisor).pid != me.pid


def test_a_service_that_dies_at_once_is_quoted(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    failing = (sys.executable, "-c", "import sys; sys.exit('no such table: runs')")
    supervisor = supervise(replace(service, command=failing))
    with pytest.raises(Misconfigured, match="no such table: runs") as caught:
        bring_up(supervisor)
    assert "web.log" in caught.value.remedy


def test_a_program_that_does_not_exist_is_said_so(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(replace(service, command=("/no/such/program",)))
    with pytest.raises(Misconfigured, match="cannot run /no/such/program"):
        bring_up(supervisor)


def test_a_service_that_never_answers_is_given_up(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    supervisor = supervise(replace(service, ready=lambda _: False, start_s=0.3))
    with pytest.raises(Misconfigured, match="not ready after"):
        bring_up(supervisor)
    assert supervisor.status()[0].state == "starting"


def test_a_strangers_port_is_refused_with_the_variable(
    service: Service, supervise: Callable[[Service], Supervisor], port: int
) -> None:
    supervisor = supervise(service)
    with socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(Misconfigured, match=str(port)) as caught:
            supervisor.refuse_taken_ports([service])
        assert "HEADRACE_WEB_PORT" in caught.value.remedy
    supervisor.refuse_taken_ports([service])
    bring_up(supervisor)
    assert port_taken(port)
    supervisor.refuse_taken_ports([service])


def test_an_ignored_sigint_is_not_handed_on(
    service: Service, supervise: Callable[[Service], Supervisor]
) -> None:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        record = bring_up(supervise(replace(service, stop_signal=signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, previous)
    os.kill(record.pid, signal.SIGINT)
    assert wait_until(lambda: not record.alive, seconds=60)


def test_a_process_runs_only_once_it_is_on_record(
    service: Service,
    supervise: Callable[[Service], Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    supervisor = supervise(service)
    seen: list[ProcessRecord] = []

    def interrupted(record: ProcessRecord) -> None:
        seen.append(record)
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor.records, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        supervisor.start(supervisor.services)
    (record,) = seen
    assert wait_until(lambda: not record.alive, seconds=60)
    assert family(record.pid, record.birth, mark=f"HEADRACE_HOME={tmp_path}") == []
    assert (tmp_path / "logs" / "web.log").read_text() == ""


def test_no_secret_enters_record_log_command_or_fingerprint(
    service: Service, supervise: Callable[[Service], Supervisor], tmp_path: Path
) -> None:
    told = replace(service, secrets=lambda: {"LAKEFS_SECRET_ACCESS_KEY": "very-secret"})
    record = bring_up(supervise(told))
    assert told.fingerprint == service.fingerprint
    texts = [p.read_text() for folder in ("run", "logs") for p in (tmp_path / folder).iterdir()]
    assert not any("very-secret" in text for text in texts)
    command = Path(f"/proc/{record.pid}/cmdline")
    assert not command.exists() or b"very-secret" not in command.read_bytes()


def test_withheld_variables_do_not_reach_the_process(
    service: Service,
    supervise: Callable[[Service], Supervisor],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "very-secret")
    out = tmp_path / "env.json"
    code = f"import json, os; json.dump(dict(os.environ), open({str(out)!r}, 'w'))\n"
    command = (sys.executable, "-c", code + WEB, service.command[-1])
    withheld = ("LAKEFS_SECRET_ACCESS_KEY",)
    bring_up(supervise(replace(service, command=command, withheld=withheld)))
    env = json.loads(out.read_text())
    assert "LAKEFS_SECRET_ACCESS_KEY" not in env
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_an_old_log_is_kept_beside_the_new_one(
    service: Service, supervise: Callable[[Service], Supervisor], tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.log").write_bytes(b"x" * 10_000_001)
    bring_up(supervise(service))
    log = tmp_path / "logs" / "web.log"
    assert wait_until(lambda: log.read_text() == "hello\n", seconds=60)
    assert (tmp_path / "logs" / "web.log.1").stat().st_size == 10_000_001
