import json
from datetime import UTC, datetime

import pytest

from flows.cli.commands.data import branches
from flows.data.branches import Branch
from tests.unit.flows.cli.commands.conftest import Run

MINE = Branch("mine", "c" * 64, datetime(2026, 1, 1, tzinfo=UTC), "rows\nof mine")


@pytest.mark.parametrize("command", ["branch", "tag"])
def test_nothing_is_deleted_without_a_name(run: Run, command: str) -> None:
    done = run("data", command, "--delete")
    assert done.exit_code == 2
    assert "--delete needs a NAME" in done.output


def test_branches_are_a_table_for_people_and_whole_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    branches._show([MINE], as_json=False)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["branch", "commit", "when", "(UTC)", "message"]
    assert row.split() == ["mine", "c" * 12, "2026-01-01", "00:00:00", "rows", "of", "mine"]
    branches._show([MINE], as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["commit"] == "c" * 64
