"""One machine's real processes: started, killed, restarted, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any

import httpx
import pytest

from flows.errors import Misconfigured
from flows.machine import (
    ServiceStatus,
    Supervisor,
    down,
    environment,
    status,
    up,
)
from flows.machine.process_records import ProcessRecord, ProcessRecords
from flows.machine.processes import everyone, wait_until
from flows.machine.services import local_services
from flows.settings import Settings

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="only /proc shows what was left running"
)
KEPT = ("lake", "prefect", "worker")
FLOWS = """
import os
import time
from pathlib import Path
from socket import socket

from prefect import flow
from prefect.settings import PREFECT_RESULTS_DEFAULT_SERIALIZER


@flow
def look(out: str) -> None:
    seen = [PREFECT_RESULTS_DEFAULT_SERIALIZER.value(), os.getcwd(), os.environ["HEADRACE_HOME"]]
    Path(out).write_text("\\n".join(seen))


@flow
def wait(seconds: float = 120.0) -> None:
    time.sleep(seconds)
"""
YAML = """
name: test
pull:
  - prefect.deployments.steps.set_working_directory: {{directory: {root}}}
definitions:
  pool: &pool
    name: local
    job_variables: {{command: python -m prefect.engine}}
deployments:
  - name: look
    entrypoint: stage/flow.py:look
    work_pool: *pool
    schedules:
      - {{cron: 0 3 * * *, slug: nightly}}
{more}
"""
MORE = """
      - {cron: 0 4 * * *, slug: later}
  - name: wait
    entrypoint: stage/flow.py:wait
    work_pool: *pool
"""
UP = "from flows.machine import up; from flows.settings import Settings; up(Settings.load(), {})"


def free_ports(count: int) -> list[int]:
    sockets = [socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    root = tmp_path_factory.mktemp("project")
    (root / "stage").mkdir()
    (root / "stage" / "flow.py").write_text(FLOWS)
    declare(root, MORE)
    lake, prefect, service = free_ports(3)
    made = Settings(
        root=root,
        home=root / ".headrace",
        lake_port=lake,
        prefect_port=prefect,
        service_port=service,
        lake_endpoint=None,
    )
    yield made
    down(made)
    assert leftovers(made) == []


@pytest.fixture
def running(settings: Settings) -> dict[str, ProcessRecord]:
    up(settings, KEPT)
    return records(settings)


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=settings.prefect_api_url, trust_env=False) as client:
        yield client


def declare(root: Path, more: str) -> None:
    (root / "prefect.yaml").write_text(YAML.format(root=root, more=more))


def records(settings: Settings) -> dict[str, ProcessRecord]:
    found = {name: ProcessRecords(settings.home).read(name) for name in KEPT}
    return {name: record for name, record in found.items() if record is not None}


def leftovers(settings: Settings) -> list[int]:
    """Processes that carry this installation's mark in their environment."""
    mark = f"HEADRACE_HOME={settings.home}".encode()
    carrying = []
    for process in everyone():
        try:
            env = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue
        if mark in env.split(b"\0"):
            carrying.append(process.pid)
    return carrying


def states(found: list[ServiceStatus]) -> dict[str, str]:
    return {one.name: one.state for one in found if one.name in KEPT}


def begin(api: httpx.Client, deployment: str, **parameters: Any) -> str:
    found = api.get(f"/deployments/name/{deployment}").raise_for_status().json()
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    run = api.post(f"/deployments/{found['id']}/create_flow_run", json=body)
    return str(run.raise_for_status().json()["id"])


def state(api: httpx.Client, run: str) -> str:
    return str(api.get(f"/flow_runs/{run}").raise_for_status().json()["state_type"])


def wait_for_state(api: httpx.Client, run: str, wanted: str) -> None:
    assert wait_until(lambda: state(api, run) == wanted, seconds=60, poll_s=0.2), state(api, run)


def engine_of(settings: Settings, worker: ProcessRecord) -> int:
    supervisor = Supervisor(settings.home, local_services(settings), tell=lambda _: None)
    (run,) = (p.pid for p in supervisor.relatives(worker) if p.pid != worker.pid)
    return run


def test_up_starts_everything_and_status_agrees(settings: Settings) -> None:
    said: list[str] = []
    assert states(up(settings, KEPT, tell=said.append)) == dict.fromkeys(KEPT, "running")
    assert states(status(settings)) == dict.fromkeys(KEPT, "running")
    assert "prefect: registering blocks and deployments" in said
    assert httpx.get(f"{settings.prefect_url}/", follow_redirects=True).is_success


def test_a_second_up_changes_nothing(settings: Settings, running: dict[str, ProcessRecord]) -> None:
    said: list[str] = []
    up(settings, KEPT, tell=said.append)
    assert said == []
    assert records(settings) == running


@pytest.mark.usefixtures("running")
def test_blocks_and_deployments_are_on_the_server(api: httpx.Client) -> None:
    types = api.post("/block_types/filter", json={"limit": 200}).json()
    ours = {one["slug"] for one in types if one["slug"].startswith("headrace-")}
    assert {slug.removeprefix("headrace-") for slug in ours} == {
        "alerts",
        "decryption-key",
        "lake-credentials",
        "serving-target",
        "signing-keys",
        "trust-policy",
    }
    deployments = api.post("/deployments/filter", json={}).json()
    assert {one["name"] for one in deployments} >= {"look"}
    assert api.get("/work_pools/local").json()["type"] == "process"


@pytest.mark.usefixtures("running")
def test_a_run_sees_the_surroundings(settings: Settings, api: httpx.Client) -> None:
    out = settings.root / "seen.txt"
    wait_for_state(api, begin(api, "look/look", out=str(out)), "COMPLETED")
    assert out.read_text().splitlines() == ["json", str(settings.root), str(settings.home)]


@pytest.mark.usefixtures("running")
def test_a_block_secret_is_sealed_under_a_key_outside_the_database(settings: Settings) -> None:
    code = (
        "from blocks import Alerts\nfrom pydantic import SecretStr\n"
        "Alerts(webhook_url=SecretStr('https://very.secret')).save('mine', overwrite=True)\n"
        "print(Alerts.load('mine').webhook_url.get_secret_value())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "https://very.secret\n", done.stderr
    database = b"".join(p.read_bytes() for p in (settings.home / "prefect").glob("prefect.db*"))
    assert b"very.secret" not in database
    key = (settings.home / "prefect-encryption.key").read_bytes()
    assert key not in database


@pytest.mark.parametrize("name", KEPT)
def test_up_restarts_just_what_crashed(
    settings: Settings, running: dict[str, ProcessRecord], name: str
) -> None:
    os.kill(running[name].pid, signal.SIGKILL)
    assert wait_until(lambda: not running[name].alive, seconds=5)
    assert states(status(settings))[name] == "crashed"
    assert states(up(settings, KEPT)) == dict.fromkeys(KEPT, "running")
    now = records(settings)
    assert {one for one in KEPT if now[one].pid != running[one].pid} == {name}


def test_a_run_outlives_its_worker_and_down_still_finds_it(
    settings: Settings, running: dict[str, ProcessRecord], api: httpx.Client
) -> None:
    run = begin(api, "wait/wait")
    wait_for_state(api, run, "RUNNING")
    engine = engine_of(settings, running["worker"])
    os.kill(running["worker"].pid, signal.SIGKILL)
    assert wait_until(lambda: not running["worker"].alive, seconds=5)
    up(settings, KEPT)
    assert state(api, run) == "RUNNING"
    assert engine in leftovers(settings)
    down(settings)
    assert leftovers(settings) == []
    up(settings, KEPT)
    assert state(api, run) == "CRASHED"


def test_a_run_that_died_with_its_worker_is_crashed_after_up(
    settings: Settings, running: dict[str, ProcessRecord], api: httpx.Client
) -> None:
    run = begin(api, "wait/wait")
    wait_for_state(api, run, "RUNNING")
    engine = engine_of(settings, running["worker"])
    os.kill(running["worker"].pid, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    assert wait_until(lambda: engine not in leftovers(settings), seconds=5)
    assert state(api, run) == "RUNNING"
    up(settings, KEPT)
    assert state(api, run) == "CRASHED"


@pytest.mark.usefixtures("running")
def test_down_ends_runs_checkpoints_the_database_and_can_be_repeated(
    settings: Settings, api: httpx.Client
) -> None:
    run = begin(api, "wait/wait")
    wait_for_state(api, run, "RUNNING")
    down(settings)
    assert leftovers(settings) == []
    assert states(status(settings)) == dict.fromkeys(KEPT, "stopped")
    assert [p.name for p in (settings.home / "prefect").glob("prefect.db*")] == ["prefect.db"]
    down(settings)
    up(settings, KEPT)
    assert state(api, run) == "CRASHED"


@pytest.mark.usefixtures("running")
def test_what_the_file_no_longer_names_goes_and_a_users_own_stays(
    settings: Settings, api: httpx.Client
) -> None:
    look = api.get("/deployments/name/look/look").raise_for_status().json()
    mine = {"name": "mine", "flow_id": look["flow_id"], "entrypoint": "mine.py:mine"}
    api.post("/deployments/", json=mine).raise_for_status()
    extra = {"schedule": {"interval": 3600}, "active": True, "slug": "by-hand"}
    api.post(f"/deployments/{look['id']}/schedules", json=[extra]).raise_for_status()
    declare(settings.root, "")
    try:
        up(settings, KEPT)
        names = {one["name"] for one in api.post("/deployments/filter", json={}).json()}
        assert names == {"look", "mine"}
        schedules = api.get(f"/deployments/{look['id']}/schedules").json()
        assert {one["slug"] for one in schedules} == {"nightly", "by-hand"}
    finally:
        declare(settings.root, MORE)
    up(settings, KEPT)
    assert api.get("/deployments/name/wait/wait").is_success


@pytest.mark.usefixtures("running")
def test_a_deployment_prefect_refuses_is_told_in_one_line(settings: Settings) -> None:
    broken = MORE + "  - {name: gone, entrypoint: 'stage/gone.py:gone', work_pool: {name: local}}\n"
    declare(settings.root, broken)
    try:
        with pytest.raises(Misconfigured, match="Prefect refused the deployments") as caught:
            up(settings, KEPT)
        assert "\n" not in str(caught.value)
        assert "deploy.log" in caught.value.remedy
    finally:
        declare(settings.root, MORE)
    assert states(up(settings, KEPT)) == dict.fromkeys(KEPT, "running")


def test_two_ups_at_once_start_each_process_once(settings: Settings) -> None:
    down(settings)
    both = [start_up(settings) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    leaders = {record.pid for record in records(settings).values()}
    assert len(leaders) == len(KEPT)
    assert leaders <= set(leftovers(settings))
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in leftovers(settings)]
    assert sum(b"flows.machine.prefect_server" in one for one in commands) == 1
    assert sum(b"worker\0start" in one for one in commands) == 1


@pytest.mark.parametrize(("number", "after_s"), [(signal.SIGINT, 0.5), (signal.SIGKILL, 1.5)])
def test_an_interrupted_up_is_finished_by_the_next(
    settings: Settings, number: signal.Signals, after_s: float
) -> None:
    down(settings)
    first = start_up(settings)
    time.sleep(after_s)
    first.send_signal(number)
    assert first.wait(30) != 0
    known = {record.pid for record in records(settings).values() if record.alive}
    assert wait_until(lambda: set(leftovers(settings)) == known, seconds=5)
    assert states(up(settings, KEPT)) == dict.fromkeys(KEPT, "running")
    assert known <= {record.pid for record in records(settings).values()}


def start_up(settings: Settings) -> subprocess.Popen[bytes]:
    # Without the mark, so that `leftovers` counts what was started and not who starts it.
    env = environment(settings)
    home = env.pop("HEADRACE_HOME")
    assert home == f"{settings.root}/.headrace"
    return subprocess.Popen(
        [sys.executable, "-c", UP.format(KEPT)],
        env=env,
        cwd=settings.root,
        stderr=subprocess.DEVNULL,
    )
