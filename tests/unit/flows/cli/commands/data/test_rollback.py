import pytest

from flows.cli.commands.data import rollback
from tests.unit.flows.cli.commands.conftest import Run


@pytest.mark.parametrize(
    "words",
    [
        ("--to", "main~1"),
        ("planes", "--all", "--to", "main~1"),
        ("planes",),
        ("planes", "--to", "main~1", "--at", "2026-01-01"),
    ],
)
def test_tables_and_target_are_each_given_in_one_way(run: Run, words: tuple[str, ...]) -> None:
    assert rollback.app.registered_commands
    done = run("data", "rollback", *words, "--reason", "r")
    assert done.exit_code == 2
    assert "--all" in done.output


def test_a_reason_is_needed(run: Run) -> None:
    assert run("data", "rollback", "planes", "--to", "main~1").exit_code == 2
