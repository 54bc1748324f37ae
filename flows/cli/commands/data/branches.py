"""`headrace data branch`, `merge` and `tag`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName

if TYPE_CHECKING:
    from flows.data.branches import Branch

app = typer.Typer()


@app.command()
def branch(
    name: Annotated[str | None, typer.Argument(help="Make this branch; without, list all.")] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="REF", help="Where the new branch starts.")
    ] = "main",
    delete: Annotated[bool, typer.Option("--delete", help="Drop the branch instead.")] = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the branches (not those of runs), make one, or delete one."""
    from flows.cli.terminal import tell
    from flows.context import open_context
    from flows.data import branches

    if name is None and delete:
        raise typer.BadParameter("--delete needs a NAME", param_hint="--delete")
    context = open_context(pipeline)
    context.pin()
    if name is None:
        _show(branches.user_branches(context.lake, context.repository), as_json=as_json)
    elif delete:
        branches.delete(context.lake, context.repository, name)
        tell(f"Branch {name} is deleted.")
    else:
        start = context.pin(source).commit
        _show(
            [branches.create(context.lake, context.repository, name, source=start)], as_json=as_json
        )


@app.command()
def merge(
    source: Annotated[str, typer.Argument(metavar="BRANCH", help="The branch to merge.")],
    into: Annotated[str, typer.Option("--into", help="Where its rows go.")] = "main",
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Re-apply the rows that a branch changed, by key; keys changed on both sides are refused."""
    from flows.cli.terminal import actor, say, show_json, show_table, tell
    from flows.context import open_context
    from flows.data import merge_check as merging
    from flows.data.branches import require_mergeable
    from flows.data.history import row_changes

    context = open_context(pipeline)
    require_mergeable(source, into)
    context.pin(source)
    context.pin(into)
    outcome = merging.merge(
        context.lake,
        context.pipeline,
        source,
        into=into,
        by=context.acting(actor(), command="headrace data merge").origin,
    )
    changes = row_changes(outcome.record)
    if as_json:
        run = outcome.record.run_id
        answer = {"commit": outcome.pin.commit, "already": outcome.already, "run_id": run}
        show_json({**answer, "tables": changes})
        return
    if outcome.already:
        tell(f"{source} was merged into {into} before; nothing was changed now.")
    say(f"{source} is in {into} at {outcome.pin.commit[:12]}")
    rows = [(c.table, c.added, c.changed, c.removed) for c in changes]
    show_table(("table", "added", "changed", "removed"), rows, right="added changed removed")


@app.command()
def tag(
    name: Annotated[
        str | None, typer.Argument(help="Make this tag, which never moves; without, list all.")
    ] = None,
    ref: Annotated[str, typer.Argument(help="What it names.")] = "main",
    delete: Annotated[bool, typer.Option("--delete", help="Drop the tag instead.")] = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the tags, give a commit a name, or drop a name; the commit stays."""
    from flows.cli.terminal import say, show_json, tell
    from flows.context import open_context
    from flows.data import branches

    if name is None and delete:
        raise typer.BadParameter("--delete needs a NAME", param_hint="--delete")
    context = open_context(pipeline)
    pin = context.pin(ref)
    if name is None:
        _show(branches.tags(context.lake, context.repository), what="tag", as_json=as_json)
    elif delete:
        dropped = branches.delete_tag(context.lake, context.repository, name)
        tell(f"Tag {name} is deleted; it named {dropped[:12]}.")
    else:
        branches.tag(context.lake, pin, name)
        if as_json:
            show_json({"tag": name, "commit": pin.commit})
        else:
            say(f"{name} names {pin.commit[:12]}")


def _show(found: "list[Branch]", *, what: str = "branch", as_json: bool) -> None:
    from flows.cli.terminal import show_json, show_table

    if as_json:
        show_json(found)
        return
    rows = [(one.name, one.commit[:12], one.at, one.message) for one in found]
    show_table((what, "commit", "when (UTC)", "message"), rows)
