"""`headrace data rollback`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    AsJson,
    DryRun,
    MayRunAgain,
    OnBranch,
    PipelineName,
    Reason,
    Yes,
)

if TYPE_CHECKING:
    from flows.context import Context
    from flows.data.rollback import DataPlan
    from storage.lake import Pin
    from storage.runs.records import Record

app = typer.Typer()


@app.command()
def rollback(
    reason: Reason,
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="TABLE...", help="What to take back.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Take back every table.")] = False,
    to: Annotated[
        str, typer.Option("--to", metavar="REF", help="The commit, tag or REF~N to go back to.")
    ] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Or the moment, ISO 8601, UTC.")
    ] = "",
    on: OnBranch = "main",
    may_run_again: MayRunAgain = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Bring back the rows that stood at an earlier commit, as a new version."""
    from flows.cli.terminal import actor, confirm, tell
    from flows.context import open_context
    from flows.data import rollback as datasets

    if bool(tables) == every or bool(to) == bool(at):
        raise typer.BadParameter("give TABLE... or --all, and --to REF or --at TIME")
    context = open_context(pipeline)
    head = context.pin(on)
    target = context.pin(to) if to else _commit_at(context, head, at)
    plan = datasets.plan_datasets(
        context.lake, head=head, to=target, datasets=tables, may_run_again=may_run_again
    )
    if dry_run:
        _preview(plan, as_json=as_json)
        return
    show_plan(plan)
    if plan.is_done:
        standing = datasets.find_rollback(context.lake, plan)
        tell("The datasets are as they were then already; nothing was changed.")
        _show(plan, head, standing, already=True, as_json=as_json)
        return
    confirm(f"Take {len(plan.steps)} tables of {on} back?", yes=yes)
    outcome = datasets.roll_back_datasets(
        context.acting(actor(), command="headrace data rollback"),
        plan,
        request_id=plan.request_id,
        on=on,
        reason=reason,
    )
    _show(plan, outcome.pin, outcome.record, already=outcome.already, as_json=as_json)


def show_plan(plan: "DataPlan") -> None:
    """Say on stderr what a rollback of datasets would change."""
    from flows.cli.terminal import tell, thousands

    tell(f"Back to {plan.to.commit[:12]} from {plan.head.commit[:12]}:")
    for step in plan.steps:
        then = thousands(step.then.rows if step.then else 0)
        kept = "" if step.changes else " (no change)"
        tell(f"  {step.table}: {thousands(step.now.rows)} rows now, {then} then{kept}")
    for run in plan.undone:
        tell(f"  undoes {run.stage} {run.run_id[:12]} of {run.started_at[:16]}")


def _preview(plan: "DataPlan", *, as_json: bool) -> None:
    from flows.cli.terminal import show_json, tell

    if not as_json:
        show_plan(plan)
        tell("Nothing was changed: this was a dry run.")
        return
    tables = {
        step.table: {
            "rows_now": step.now.rows,
            "rows_then": step.then.rows if step.then else 0,
            "changes": step.changes,
        }
        for step in plan.steps
    }
    undone = [f"{run.stage}/{run.run_id}" for run in plan.undone]
    pins = {"commit": plan.head.commit, "to": plan.to.commit}
    show_json({**pins, "dry_run": True, "tables": tables, "supersedes": undone})


def _commit_at(context: "Context", head: "Pin", at: str) -> "Pin":
    from storage.versions.moments import commit_at, moment_of

    moment = moment_of(at)
    if moment is None:
        raise typer.BadParameter(f"{at!r} is no ISO 8601 time", param_hint="--at")
    return commit_at(context.lake, head, moment)


def _show(
    plan: "DataPlan", pin: "Pin", record: "Record | None", *, already: bool, as_json: bool
) -> None:
    from flows.cli.terminal import say, show_json, show_table, thousands
    from storage.versions.rollback import RollbackDetails

    undone = list(RollbackDetails.of(record).supersedes) if record else []
    versions = record.tables if record else {s.table: s.now.version for s in plan.steps}
    rows = {step.table: step.then.rows if step.then else 0 for step in plan.steps}
    if as_json:
        tables = {n: {"version": versions.get(n), "rows": rows[n]} for n in rows}
        run = record.run_id if record else None
        answer = {"commit": pin.commit, "to": plan.to.commit, "already": already, "run_id": run}
        show_json({**answer, "tables": tables, "supersedes": undone})
        return
    show_table(
        ("table", "version", "rows"),
        [(name, versions.get(name), thousands(count)) for name, count in rows.items()],
        right="version rows",
    )
    if record:
        say(f"rollback {record.run_id[:12]}, at {pin.commit[:12]}; runs undone: {len(undone)}")
    for run in undone:
        say(f"  {run}")
