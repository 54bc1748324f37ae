from datetime import UTC, datetime

import pytest

from flows.cli.commands.data import purge
from storage.forgetting.purge import Purge

DUE = datetime(2026, 1, 1, tzinfo=UTC)
FOUND = Purge("a" * 64, DUE, 3, 1, held={"tables/x": "mine"}, left=("s3://y",), is_done=False)


@pytest.mark.parametrize(
    ("dry_run", "address"),
    [(True, "would erase: s3://y"), (False, "erase in your object store: s3://y")],
)
def test_what_is_held_and_what_is_left_are_named(
    capsys: pytest.CaptureFixture[str], dry_run: bool, address: str
) -> None:
    purge._show_purges([FOUND], dry_run=dry_run)
    shown = capsys.readouterr()
    _, row, held, left = shown.out.splitlines()
    assert row.split() == ["a" * 12, "2026-01-01", "00:00:00", "3", "1", "1", "1"]
    assert held == "mine still shows tables/x: forget the rows there, or delete the branch"
    assert left == address
    assert bool(shown.err) is not dry_run


def test_nothing_due_is_said_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    purge._show_purges([], dry_run=False)
    assert tuple(capsys.readouterr()) == ("", "Nothing is due.\n")
