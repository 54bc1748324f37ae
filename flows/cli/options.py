"""The options and arguments that commands have in common, each spelt once."""

from collections.abc import Sequence
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
PipelineName = Annotated[
    str | None,
    typer.Option(
        "--pipeline", metavar="MODULE:NAME", help="The pipeline; by default the settings' own."
    ),
]
AtRef = Annotated[
    str,
    typer.Option("--on", "--at", metavar="REF", help="Branch, tag, commit, REF~N or time to read."),
]
OnBranch = Annotated[str, typer.Option("--on", metavar="BRANCH", help="Branch to change.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, help="How many to show.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can answer.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the history for good.")]
MayRunAgain = Annotated[
    bool, typer.Option("--may-run-again", help="Let the undone batches land anew.")
]
ReleaseName = Annotated[str, typer.Argument(help="MODEL/VERSION, as `model list` prints it.")]
Environment = Annotated[
    str | None, typer.Option(help="Which environment; by default the settings' own.")
]
RootKey = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="Where the root's key is, if it is kept offline."),
]


def parse_numbers(given: Sequence[str] | None, option: str, *, least: int = 1) -> dict[str, int]:
    """`NAME=N` of a repeatable option, as a mapping. Raises: BadParameter."""
    found = {}
    for text in given or ():
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or int(number) < least:
            raise typer.BadParameter(f"{text!r} is not NAME=N", param_hint=option)
        found[name] = int(number)
    return found
