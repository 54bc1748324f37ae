import pytest
import typer

from flows.cli.commands.model import promotion
from tests.unit.flows.cli.commands.conftest import Run


def test_the_group_has_them_between_the_releases_and_the_recipients(run: Run) -> None:
    group = typer.main.get_command(promotion.app)
    assert list(group.commands) == ["promote", "proposals", "approve"]  # type: ignore[attr-defined]
    shown = run("model", "--help").output
    places = [shown.index(f"\n  {name} ") for name in ("show", "promote", "approve", "recipients")]
    assert places == sorted(places)


@pytest.mark.parametrize("words", [("promote", "flights/7"), ("approve", "seven"), ("approve",)])
def test_a_reason_and_a_number_are_needed(run: Run, words: tuple[str, ...]) -> None:
    assert run("model", *words).exit_code == 2
