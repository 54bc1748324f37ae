"""`headrace rollback`: an environment's model and data back together."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, MayRunAgain, PipelineName, Reason, Yes

if TYPE_CHECKING:
    from flows.release.rollback import EnvironmentPlan, EnvironmentRollback

app = typer.Typer()


@app.command()
def rollback(
    environment: Annotated[str, typer.Option(help="Which environment, such as production.")],
    reason: Reason,
    to: Annotated[
        str, typer.Option("--to", metavar="RELEASE", help="By default what ran before.")
    ] = "",
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Only the model.")] = False,
    may_run_again: MayRunAgain = False,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Serve the previous release again, and take the datasets back to what it was trained on."""
    from flows.cli.terminal import actor, confirm, show_json
    from flows.context import open_context
    from flows.release.rollback import RollbackRequest, plan_rollback, roll_back_environment
    from storage.registry import ReleaseRef

    context = open_context(pipeline).acting(actor(), command="headrace rollback")
    ref = ReleaseRef.parse(to) if to else None
    plan = plan_rollback(
        context, RollbackRequest(environment, reason, ref, keep_data, may_run_again)
    )
    _show_plan(plan)
    if not plan.is_done:
        confirm(f"Take {environment} back to {plan.release}?", yes=yes)
    done = roll_back_environment(context, plan)
    if as_json:
        show_json(_document(done))
    else:
        _show(done)


def _show_plan(plan: "EnvironmentPlan") -> None:
    from flows.cli.commands.data.rollback import show_plan
    from flows.cli.terminal import tell

    index = plan.current.index
    if plan.repeated:
        tell(f"{plan.environment} is back at {plan.release} already, by index {index.number}.")
    else:
        tell(
            f"{plan.environment} runs {plan.left} (index {index.number}, {index.actor}: "
            f"{index.reason}) and goes back to {plan.release}."
        )
    if plan.data:
        show_plan(plan.data)


def _document(done: "EnvironmentRollback") -> dict[str, object]:
    from storage.versions.rollback import RollbackDetails

    record = done.data
    data = None
    if record:
        undone = list(RollbackDetails.of(record).supersedes)
        data = {"run_id": record.run_id, "tables": dict(record.tables), "supersedes": undone}
    return {
        "environment": done.environment,
        "left": str(done.left),
        "release": str(done.release),
        "index": done.index,
        "already": done.already,
        "proposal": done.proposal,
        "data": data,
    }


def _show(done: "EnvironmentRollback") -> None:
    from flows.cli.terminal import say, tell, thousands
    from storage.versions.rollback import RollbackDetails

    if done.proposal is not None:
        tell(
            f"Nothing changed yet. Another releaser approves with `headrace model approve "
            f"{done.proposal} --environment {done.environment}`; then give this command again for "
            "the datasets."
        )
        say(f"{done.environment} proposal {done.proposal} names {done.release}")
        return
    if done.already:
        tell("This rollback was done before; nothing was changed now.")
    say(f"{done.environment} index {done.index} names {done.release} instead of {done.left}")
    record = done.data
    if record is None:
        say("the datasets stay as they are")
        return
    for table, version in record.tables.items():
        say(f"{table}: version {version}, {thousands(record.counts[f'{table}:after'])} rows")
    say(f"runs undone: {len(RollbackDetails.of(record).supersedes)}")
