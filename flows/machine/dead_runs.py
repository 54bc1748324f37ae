"""Flow runs whose process is gone get the state that they are in.

A worker that is killed leaves its runs in the state Running for ever. Paused runs are not
touched: they wait for a person, not for a process.
"""

from collections.abc import Callable, Collection
from typing import Any

import httpx

from flows.machine.services import WORK_POOL

ASK_SECONDS = 10.0
PAGE = 200
LIVE = ["RUNNING", "PENDING", "CANCELLING"]


def settle(
    server: str | None, *, alive: Collection[int], tell: Callable[[str], None] = lambda _: None
) -> int:
    """Give every run of our pool without a process among `alive` the state it is in; how many.

    What had begun is Crashed; what had not goes back to Scheduled. `server` is the address of this
    installation's own Prefect: another's runs have processes that nobody here knows, and would be
    ended. Without one, or where it does not answer, nothing is done: the next `up` settles.
    """
    if server is None:
        return 0
    try:
        with httpx.Client(base_url=f"{server}/api", timeout=ASK_SECONDS, trust_env=False) as client:
            gone = [run for run in _live_runs(client) if not _has_process(run, alive)]
            for run in gone:
                state = {"state": _state_of(run), "force": False}
                client.post(f"/flow_runs/{run['id']}/set_state", json=state).raise_for_status()
    except httpx.HTTPError:
        return 0
    for run in gone:
        tell(f"run {run['name']}: its process is gone")
    return len(gone)


def _live_runs(client: httpx.Client) -> list[dict[str, Any]]:
    wanted = {
        "flow_runs": {"state": {"type": {"any_": LIVE}}},
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "limit": PAGE,
        "sort": "ID_DESC",
    }
    found: list[dict[str, Any]] = []
    while True:
        asked = wanted | {"offset": len(found)}
        page = client.post("/flow_runs/filter", json=asked).raise_for_status().json()
        found += page
        if len(page) < PAGE:
            return found


def _has_process(run: dict[str, Any], alive: Collection[int]) -> bool:
    pid = run["infrastructure_pid"]
    # A young run has not reported its pid yet; while any process is left it may be that one.
    return bool(alive) if pid is None else pid in {str(one) for one in alive}


def _state_of(run: dict[str, Any]) -> dict[str, str]:
    if run["state_type"] == "PENDING":
        return {"type": "SCHEDULED", "name": "Scheduled", "message": "Its worker stopped first."}
    return {"type": "CRASHED", "name": "Crashed", "message": "Its process is gone."}
