"""The guides and the command line say the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli.main import assemble

ROOT = Path(__file__).parents[4]
CLI_GUIDE = (ROOT / "docs/guides/cli.md").read_text()
DATA_GUIDE = (ROOT / "docs/guides/data.md").read_text()


# Explained once for all commands.
COMMON = {"--json", "--pipeline"}


def commands(command: Any, path: str = "headrace") -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", {})
    if not inside or command.invoke_without_command:
        yield path, command
    for name, child in inside.items():
        yield from commands(child, f"{path} {name}")


ALL = dict(commands(typer.main.get_command(assemble())))


def section(title: str) -> str:
    """What the guide says under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", CLI_GUIDE, re.M | re.S)
    assert found, f"docs/guides/cli.md has no heading {title}"
    return found[1]


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_a_section_that_names_its_options_and_arguments(path: str) -> None:
    text = section(f"`{path}`")
    for parameter in ALL[path].params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name.upper()) in text
        elif not COMMON & set(parameter.opts):
            spelt = "|".join(map(re.escape, parameter.opts))
            assert re.search(rf"`[^`]*(?<![\w-])({spelt})(?![\w-])", text), parameter.opts


@pytest.mark.parametrize("option", sorted(COMMON))
def test_options_in_common_are_explained_once(option: str) -> None:
    assert f"`{option}" in section("Options in common")


def test_the_guide_knows_no_command_that_is_not_there() -> None:
    assert set(re.findall(r"^#+ `(headrace[^`]*)`", CLI_GUIDE, re.M)) == set(ALL)


def test_every_command_in_the_data_guide_exists() -> None:
    used = re.findall(r"(?:^\$ |`)(headrace [a-z]+(?: [a-z]+)?)", DATA_GUIDE, re.M)
    assert len(used) > 10
    assert [u for u in used if u not in ALL and u.rsplit(" ", 1)[0] not in ALL] == []


READERS = {
    "headrace data ls",
    "headrace data show",
    "headrace data batches",
    "headrace data log",
    "headrace data diff",
    "headrace data branch",
    "headrace data merge",
    "headrace data rollback",
    "headrace data tag",
    "headrace runs",
    "headrace runs show",
    "headrace model list",
    "headrace model show",
    "headrace verify",
    "headrace keys init",
    "headrace rollback",
    "headrace status",
}


@pytest.mark.parametrize("path", sorted(READERS))
def test_what_a_program_might_read_has_json(path: str) -> None:
    assert any("--json" in parameter.opts for parameter in ALL[path].params)
