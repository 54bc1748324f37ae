from typing import Any

import pytest

from flows.machine import dead_runs
from tests.unit.flows.machine.conftest import FakePrefect, free_port


def run(name: str, state: str = "RUNNING", pid: int | None = 7) -> dict[str, Any]:
    return {
        "id": f"id-{name}",
        "name": name,
        "state_type": state,
        "infrastructure_pid": None if pid is None else str(pid),
    }


def test_a_run_without_its_process_is_crashed_and_reported(prefect: FakePrefect) -> None:
    prefect.runs = [run("gone", pid=7), run("alive", pid=8)]
    said: list[str] = []
    assert dead_runs.settle(prefect.address, alive={8}, tell=said.append) == 1
    assert {of: state["type"] for of, state in prefect.states.items()} == {"id-gone": "CRASHED"}
    assert said == ["run gone: its process is gone"]


def test_what_had_not_begun_is_scheduled_again(prefect: FakePrefect) -> None:
    prefect.runs = [run("young", state="PENDING")]
    assert dead_runs.settle(prefect.address, alive=set()) == 1
    assert prefect.states["id-young"]["type"] == "SCHEDULED"


@pytest.mark.parametrize(("alive", "states"), [({9}, {}), (set(), {"id-new": "CRASHED"})])
def test_a_run_without_a_pid_may_belong_to_any_process_that_is_left(
    prefect: FakePrefect, alive: set[int], states: dict[str, str]
) -> None:
    prefect.runs = [run("new", pid=None)]
    dead_runs.settle(prefect.address, alive=alive)
    assert {of: state["type"] for of, state in prefect.states.items()} == states


def test_paused_and_finished_runs_are_left_as_they_are(prefect: FakePrefect) -> None:
    prefect.runs = [run(state, state=state) for state in ("PAUSED", "COMPLETED", "SCHEDULED")]
    assert dead_runs.settle(prefect.address, alive=set()) == 0
    assert prefect.states == {}


def test_every_page_is_read(prefect: FakePrefect) -> None:
    prefect.runs = [run(f"run-{number}") for number in range(dead_runs.PAGE + 1)]
    assert dead_runs.settle(prefect.address, alive=set()) == dead_runs.PAGE + 1
    assert prefect.asked.count("/api/flow_runs/filter") == 2


def test_a_server_that_does_not_answer_is_left_alone() -> None:
    assert dead_runs.settle(f"http://127.0.0.1:{free_port()}", alive=set()) == 0
    assert dead_runs.settle(None, alive=set()) == 0
