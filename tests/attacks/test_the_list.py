"""The list itself: every attack has a test, and the summary says which one was not refused."""

import ast
import re
from pathlib import Path

import pytest

from tests.attacks.conftest import ATTACKS, summary

ALL = {number: {"passed"} for number in range(1, ATTACKS + 1)}


def test_every_attack_has_a_test_and_the_list_says_where() -> None:
    here: dict[int, set[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (
                found := re.match(r"test_(\d\d)_", node.name)
            ):
                here.setdefault(int(found[1]), set()).add(path.name)
    assert here.keys() == ALL.keys()
    listed = Path(__file__).parents[2].joinpath("docs/attacks.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", listed, re.MULTILINE)
    assert {int(number): set(re.findall(r"`(.*?)`", files)) for number, files in rows} == here


@pytest.mark.parametrize(
    ("outcomes", "left_out", "lines"),
    [
        (ALL, set(), ["63 attacks, 63 refused"]),
        (
            {**ALL, 7: {"passed", "failed"}},
            set(),
            ["63 attacks, 62 refused", "NOT REFUSED: 7"],
        ),
        (
            {**ALL, 7: {"passed", "skipped"}},
            {9},
            ["63 attacks, 61 refused", "only partly run: 7, 9"],
        ),
        (
            {number: seen for number, seen in ALL.items() if number not in (1, 63)},
            {63},
            ["63 attacks, 61 refused", "not run: 1, 63"],
        ),
    ],
)
def test_the_summary_counts_only_what_was_run_and_refused(
    outcomes: dict[int, set[str]], left_out: set[int], lines: list[str]
) -> None:
    assert summary(outcomes, left_out) == lines
