"""What people see and answer on a terminal: tables, JSON for programs, one question.

Results go to stdout; what is said along the way goes to stderr.
"""

import getpass
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from flows.errors import Misconfigured

if TYPE_CHECKING:
    from rich.table import Table

# Where stdout is no terminal, no row is folded.
_PIPED_WIDTH = 10_000


def show_json(value: object) -> None:
    """One JSON document on stdout; dataclasses as objects, times in ISO 8601."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def show_table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> None:
    """Aligned columns on stdout; those named in `right` (blank-separated) are set flush right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="right" if name in right.split() else "left")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    _print(table)


def say(line: str = "") -> None:
    """One line of the result, on stdout."""
    typer.echo(cell(line))


def tell(line: str) -> None:
    """One line beside the result, on stderr."""
    typer.echo(cell(line), err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Go on if the answer is yes; `--yes` answers where nobody can be asked.

    Raises: Misconfigured where nobody is there and `yes` was not given; Exit after a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misconfigured(
            "Nothing was changed: there is no terminal to ask on.",
            remedy="Repeat the command with --yes.",
        )
    if not typer.confirm(question, err=True):
        tell("Nothing was changed.")
        raise typer.Exit(1)


def actor() -> str:
    """Who gave the command, for the record: the account's name, or its number without one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def cell(value: object) -> str:
    """A value as one line of text; characters that could steer a terminal are replaced."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def thousands(number: int | None) -> str:
    """`26,483`; a dash for what is not known."""
    return "-" if number is None else f"{number:,}"


def size(octets: int) -> str:
    """`1.4 MB`, in powers of ten."""
    amount = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _print(table: "Table") -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        typer.echo(line.rstrip())


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
