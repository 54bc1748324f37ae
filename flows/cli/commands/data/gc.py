"""`headrace data gc`: what could go."""

from typing import Annotated

import typer

from flows.cli.options import AsJson, PipelineName

app = typer.Typer()


@app.command()
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Needed: this lists, and removes nothing.")
    ] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="For batches and files.")
    ] = 30.0,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List what nothing needs any more: dead run branches, landed batches, table files, bytes."""
    from datetime import timedelta

    from flows.cli.terminal import say, show_json, show_table, size
    from flows.context import open_context
    from flows.data.removable import Candidate, candidates
    from flows.errors import Misconfigured
    from flows.machine.lake_folder import collect_garbage

    if not dry_run:
        raise Misconfigured(
            "data gc removes nothing, it lists: say --dry-run",
            remedy="`headrace lake gc` removes bytes that no branch or tag reaches; dead run "
            "branches go by themselves.",
        )
    context = open_context(pipeline)
    age = timedelta(days=older_than)
    releases = context.pipeline.releases
    found = candidates(context.lake, context.pin(), releases=releases, older_than=age)
    if context.settings.lake_is_embedded:
        lake = collect_garbage(context.settings, grace_s=86_400, dry_run=True)
        why = "no branch, tag or uncommitted data reaches it for a day: `headrace lake gc`"
        found.append(Candidate("lake", "bytes", lake.objects, lake.octets, why))
    if as_json:
        show_json(found)
        return
    rows = [(one.kind, one.name, one.objects, size(one.octets), one.why) for one in found]
    show_table(("kind", "name", "objects", "bytes", "why"), rows, right="objects bytes")
    say(f"{size(sum(one.octets for one in found))} could go; nothing was removed")
