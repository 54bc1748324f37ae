"""`headrace data purge`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, DryRun, PipelineName, Yes

if TYPE_CHECKING:
    from storage.forgetting.purge import Purge

app = typer.Typer()


@app.command()
def purge(
    on: Annotated[
        str | None, typer.Option("--on", metavar="BRANCH", help="Only what it forgot; else all.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Erase what was forgotten from old versions, once its time has come."""
    from datetime import UTC, datetime

    from flows.cli.terminal import actor, cell, confirm, show_json, tell
    from flows.context import open_context
    from storage.embedded.bytes.erasure import erase
    from storage.forgetting import purge as purging

    context, now = open_context(pipeline), datetime.now(UTC)
    context.pin(on or "main")
    waiting = purging.waiting(context.lake, context.repository, on=on)
    due = [one for one in waiting if one.due <= now]
    if due and not dry_run:
        confirm(f"Erase for good what {len(due)} requests forgot from old versions?", yes=yes)
    found = purging.purge(
        context.lake,
        context.repository,
        now=now,
        erase=erase,
        dry_run=dry_run,
        on=on,
        by=context.acting(actor(), command="headrace data purge").origin,
    )
    if as_json:
        show_json({"dry_run": dry_run, "waiting": len(waiting) - len(due), "purged": found})
        return
    if later := [one for one in waiting if one not in due]:
        tell(f"{len(later)} requests wait; the next is due at {cell(later[0].due)} UTC.")
    _show_purges(found, dry_run=dry_run)


def _show_purges(found: "list[Purge]", *, dry_run: bool) -> None:
    from flows.cli.terminal import say, show_table, tell

    if not found:
        tell("Nothing is due.")
        return
    rows = [
        (one.request[:12], one.due, one.objects, one.erased, len(one.held), len(one.left))
        for one in found
    ]
    numbers = "objects erased held left"
    show_table(("request", "due (UTC)", *numbers.split()), rows, right=numbers)
    for one in found:
        for path, branch in one.held.items():
            say(f"{branch} still shows {path}: forget the rows there, or delete the branch")
        for address in one.left:
            say(f"{'would erase' if dry_run else 'erase in your object store'}: {address}")
    if any(one.left for one in found) and not dry_run:
        tell("Erase these bytes where your lakeFS keeps them, then give the command again.")
