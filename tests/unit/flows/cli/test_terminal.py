import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import typer

from flows.cli import terminal
from flows.errors import Misconfigured


def test_a_hostile_text_cannot_steer_the_terminal() -> None:
    shown = terminal.cell("ok\x1b[2J\x07\u202egnp.exe\nnext")
    assert shown == "ok\ufffd[2J\ufffd\ufffdgnp.exe next"


def test_markup_in_a_value_is_printed_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_table(("reason",), [("[red]not[/red] :smile:",)])
    assert capsys.readouterr().out == "reason\n[red]not[/red] :smile:\n"


def test_a_piped_row_is_never_folded(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_table(("problem", "n"), [("x" * 3000, 1)], right="n")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_numbers_stand_flush_right_under_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_table(("table", "rows"), [("a", "1,000"), ("b", "7")], right="rows")
    assert capsys.readouterr().out.splitlines() == ["table   rows", "a      1,000", "b          7"]


def test_times_are_shown_in_utc() -> None:
    abroad = datetime(2013, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert terminal.cell(abroad) == "2013-01-01 00:00:00"


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2_000_000, "2.0 MB"),
        (3 * 10**15, "3000.0 TB"),
    ],
)
def test_sizes_are_in_powers_of_ten(octets: int, shown: str) -> None:
    assert terminal.size(octets) == shown


def test_json_holds_dataclasses_times_and_paths(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class One:
        at: datetime
        path: Path
        key: tuple[int, ...]

    terminal.show_json([One(datetime(2013, 1, 1, tzinfo=UTC), Path("a/b"), (1, 2))])
    assert json.loads(capsys.readouterr().out) == [
        {"at": "2013-01-01T00:00:00+00:00", "path": "a/b", "key": [1, 2]}
    ]


def test_where_nobody_can_answer_the_question_is_refused() -> None:
    with pytest.raises(Misconfigured, match="no terminal"):
        terminal.confirm("Sure?", yes=False)
    terminal.confirm("Sure?", yes=True)


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked_and_a_no_is_taken(
    answer: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    os.write(ours, answer.encode())
    with open(theirs, closefd=True) as tty:  # noqa: PTH123 - a descriptor, no path
        monkeypatch.setattr(sys, "stdin", tty)
        if goes_on:
            terminal.confirm("Sure?", yes=False)
        else:
            with pytest.raises(typer.Exit):
                terminal.confirm("Sure?", yes=False)
    os.close(ours)
