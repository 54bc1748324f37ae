import json

import pytest

from flows.cli.commands import machine
from flows.machine import ServiceStatus
from tests.unit.flows.cli.commands.conftest import Run

FIELDS = {"name", "state", "pid", "address", "since", "memory_bytes"}


def test_status_lists_every_service_with_every_field(run: Run) -> None:
    found = json.loads(run("status", "--json").stdout)
    assert [one["name"] for one in found] == ["lake", "prefect", "worker", "service"]
    assert all(one.keys() == FIELDS for one in found)


@pytest.mark.parametrize(
    ("status", "row"),
    [
        (
            ServiceStatus("lake", "running", 7, "http://x", "2026-01-01", 12_600_000),
            ("lake", "running", "7", "http://x", "2026-01-01", "13 MB"),
        ),
        (
            ServiceStatus("lake", "stopped", None, "http://x", None, None),
            ("lake", "stopped", "-", "http://x", "-", "-"),
        ),
    ],
)
def test_what_is_not_known_is_a_dash(status: ServiceStatus, row: tuple[str, ...]) -> None:
    assert machine._row(status) == row
