"""`headrace lake check`, `backup`, `restore` and `gc`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson

if TYPE_CHECKING:
    from storage.embedded.upkeep.backups import Backup
    from storage.embedded.upkeep.check import Report

app = typer.Typer()


@app.command()
def check(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also what nothing refers to, and the whole database.")
    ] = False,
    at: Annotated[
        Path | None, typer.Option("--at", metavar="FOLDER", help="A backup, or another lake.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read everything that a branch, a tag or uncommitted data needs; exit code 1 on damage."""
    from flows.cli.terminal import show_json, tell
    from flows.machine.lake_folder import lake_folder
    from flows.settings import Settings
    from storage.embedded.upkeep.check import check as check_lake

    folder = at or lake_folder(Settings.load())
    report = check_lake(folder, deep=deep, tell=tell)
    if as_json:
        show_json({"folder": folder, **_document(report)})
    else:
        _show(folder, report)
    if not report.is_sound:
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to; by default .headrace/backups/lake.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the bytes even where they could be linked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back up the lake while it runs; a second run adds what is new."""
    from flows.cli.terminal import show_json, tell
    from flows.machine.lake_folder import default_backup, lake_folder
    from flows.settings import Settings
    from storage.embedded.upkeep.backups import back_up

    settings = Settings.load()
    target = folder or default_backup(settings)
    made = back_up(lake_folder(settings), target, copy=copy, tell=tell)
    if as_json:
        show_json(made)
    else:
        _show_backup("is in", made)
    if made.linked and made.new_objects:
        tell("The bytes are linked, not copied: another disk needs a backup with --copy.")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="The backup.")],
    as_json: AsJson = False,
) -> None:
    """Fill an empty lake from a backup; stop it first with `headrace down`."""
    from flows.cli.terminal import show_json, tell
    from flows.machine.lake_folder import lake_folder
    from flows.settings import Settings
    from storage.embedded.upkeep.backups import restore as restore_lake

    made = restore_lake(folder, lake_folder(Settings.load()), tell=tell)
    if as_json:
        show_json(made)
    else:
        _show_backup("is restored from", made)


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")
    ] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="HOURS", min=0, help="What is younger stays.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Remove commits and bytes that no branch, tag or uncommitted data reaches."""
    from flows.cli.terminal import say, show_json, size
    from flows.machine.lake_folder import collect_garbage
    from flows.settings import Settings

    done = collect_garbage(Settings.load(), grace_s=grace * 3600, dry_run=dry_run)
    if as_json:
        show_json(done)
        return
    verb = "would go" if done.dry_run else "went"
    say(f"{done.commits:,} commits and {done.objects:,} objects ({size(done.octets)}) {verb}")


def _show(folder: Path, report: "Report") -> None:
    from flows.cli.terminal import say, show_table, size

    looked_at = f"{report.commits:,} commits, {report.objects:,} objects, {size(report.octets)}"
    if report.is_sound:
        say(f"{folder} is sound: {looked_at}")
        return
    say(f"{folder} is damaged ({looked_at} looked at)")
    head = ("kind", "name", "problem", "paths", "commits")
    rows = [
        (one.kind, one.name, one.problem, " ".join(one.paths), " ".join(one.commits))
        for one in report.problems
    ]
    show_table(head, rows)


def _show_backup(verb: str, made: "Backup") -> None:
    from flows.cli.terminal import say, size

    held = f"{made.commits:,} commits, {made.objects:,} objects, {size(made.octets)}"
    say(f"the lake of {made.made_at} {verb} {made.folder}: {held}")


def _document(report: "Report") -> dict[str, object]:
    from dataclasses import asdict

    return {"sound": report.is_sound, **asdict(report)}
