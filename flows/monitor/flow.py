"""Monitor: what was served -> evidence -> decision -> ledger, and then the event."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.context import Context, open_run
from flows.events import announce
from flows.learn.champion import Champion, open_champion
from flows.monitor.decide import Decision
from flows.monitor.evidence import ReleaseWindow
from flows.monitor.judge import MonitorDetails, grade_due, judge
from flows.monitor.ledger import read_decision
from flows.monitor.observe import KnownData, Observation, choose_days, observe
from flows.monitor.report import plot_daily_loss, plot_drift, rank_drift, write_decision
from flows.monitor.rules import MonitorRules
from flows.profile.profile import Profile
from storage.lake import MAIN, Pin
from storage.runs import Outcome, records

STAGE = "monitor"
DETECTED = "headrace.drift.detected"
BROKEN_FEED = "headrace.feed.broken"


@task(cache_policy=NO_CACHE, persist_result=False)
def gather_evidence(
    pipeline: str | None, data: Pin, champion: Champion, start: datetime, end: datetime
) -> Observation:
    """Sketches, labels and a challenger for the window, at the pin."""
    context = open_run(pipeline)
    return observe(
        KnownData.at(context, data),
        ReleaseWindow(context.pipeline.name, str(champion.ref), start, end),
        Profile.from_json(champion.profile),
        MonitorRules.of(context.pipeline),
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def write_ledger(
    pipeline: str | None, run_id: str, inputs: Mapping[str, Pin], observed: Observation, on: str
) -> tuple[Decision, Outcome]:
    """Decide on the newest history, inside the transaction, and merge the decision."""
    context = open_run(pipeline)
    rules, made = MonitorRules.of(context.pipeline), list[Decision]()
    grades = grade_due(context, inputs["data"], rules)
    outcome = context.commit_data(
        STAGE,
        run_id,
        lambda run: made.append(judge(run, observed, grades, rules)),
        inputs=inputs,
        on=on,
    )
    if outcome.already:
        # Another start of this window merged first: its decision is the one.
        decision = MonitorDetails.of(outcome.record).decision
        return read_decision(context.lake, outcome.pin, decision), outcome
    return made[-1], outcome


@flow(name="monitor", persist_result=False)
def monitor(
    pipeline: str | None = None,
    on: str = MAIN,
    start: datetime | None = None,
    end: datetime | None = None,
    request: str | None = None,
) -> State[Any]:
    """Judge the release that serves on [start, end), by default the 28 days before now.

    The decision is merged into the ledger first; its event, which may be lost, comes after.
    """
    context = open_run(pipeline)
    scheduled = flow_run.get_scheduled_start_time()
    start, end = choose_days(start, end, scheduled=scheduled, now=datetime.now(UTC))
    repository = context.pipeline.repository
    run_id = records.run_id(STAGE, context.pipeline.name, request or f"{start}/{end}")
    data, releases = context.lake.pin(repository, on), context.pin_releases()
    if done := records.find(context.lake, repository, data.commit, stage=STAGE, run=run_id):
        return Completed(message=f"already merged: {MonitorDetails.of(done).explanation}")
    champion = open_champion(context, releases, reader="serving")
    if champion is None:
        return Completed(message="Nothing serves yet, so there is nothing to judge.")
    inputs = {"data": data, "releases": releases}
    observed = gather_evidence(pipeline, data, champion, start, end)
    decision, outcome = write_ledger(pipeline, run_id, inputs, observed, on)
    if not outcome.already:
        _announce(context, decision, on)
    _show(decision, observed, outcome)
    return Completed(message=decision.explanation)


def _announce(context: Context, decision: Decision, on: str) -> None:
    kinds = {"retrain": DETECTED, "fix-feed": BROKEN_FEED}
    if decision.action in kinds and on == MAIN:
        announce(
            kinds[decision.action],
            pipeline=context.pipeline.name,
            payload={"decision": decision.id, "explanation": decision.explanation},
        )


def _show(decision: Decision, observed: Observation, outcome: Outcome) -> None:
    create_markdown_artifact(
        key="decision",
        markdown=write_decision(decision, outcome.pin.commit),
        description=f"What to do about {decision.release}, and why.",
    )
    create_table_artifact(
        key="drift-ranking",
        table=rank_drift(observed.evidence),
        description="Explains, does not alarm: rows of a day depend on each other.",
    )
    if observed.evidence.drift:
        create_image_artifact(key="drift", image_url=plot_drift(observed.evidence))
    if observed.evidence.advantage:
        create_image_artifact(
            key="daily-loss", image_url=plot_daily_loss(observed.served.scored, decision)
        )
