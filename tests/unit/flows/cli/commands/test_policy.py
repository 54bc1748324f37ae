import typer

from flows.cli.commands import policy
from tests.unit.flows.cli.commands.conftest import Run


def test_clean_code_is_a_choice_of_three() -> None:
    sign = typer.main.get_command(policy.app).commands["sign"]  # type: ignore[attr-defined]
    (option,) = [p for p in sign.params if p.name == "require_clean_code"]
    assert option.opts == ["--require-clean-code"]
    assert option.secondary_opts == ["--allow-unclean-code"]
    assert option.default is None


def test_the_group_alone_shows_its_help(run: Run) -> None:
    done = run("policy")
    assert "show" in done.output
    assert "sign" in done.output
