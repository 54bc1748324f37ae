"""Monitor: what was served -> evidence -> decision -> ledger, and then the event."""

from datetime import UTC, datetime, timedelta
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
from flows.monitor import ledger
from flows.monitor.decide import Decision, decide
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.grade import Grade, Outcome, grade
from flows.monitor.ledger import Entry
from flows.monitor.observe import Observed, advantage_over, observe, served_rows
from flows.monitor.plots import daily_loss_plot, drift_plot
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import DayTest
from flows.profile.profile import Profile
from flows.tables import PREDICTIONS
from storage.lake import MAIN, Pin
from storage.runs import Outcome as RunOutcome
from storage.runs import Run, records

STAGE = "monitor"
# A season's worth: enough to learn from, recent enough to differ, cheap enough to fit every time.
CHALLENGER_WINDOW = timedelta(days=90)
DETECTED = "headrace.drift.detected"
BROKEN_FEED = "headrace.feed.broken"


@task(cache_policy=NO_CACHE, persist_result=False)
def gather_evidence(
    pipeline: str | None, data: Pin, champion: Champion, start: datetime, end: datetime
) -> Observed:
    """Sketches, labels and a challenger for the window, at the pin."""
    context = open_run(pipeline)
    predictions_dataset = context.scan(data, PREDICTIONS)
    if predictions_dataset is None:
        predictions_dataset = _no_predictions(context)
    release = str(champion.ref)
    return observe(
        context.pipeline,
        context.frames(data),
        served_rows(context.pipeline, predictions_dataset, release=release, start=start, end=end),
        release=release,
        profile=Profile.from_json(champion.profile),
        start=start,
        end=end,
        rules=_rules(context),
        challenger_window=CHALLENGER_WINDOW,
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def write_ledger(
    pipeline: str | None, run_id: str, data: Pin, releases: Pin, observed: Observed, on: str
) -> tuple[Decision, RunOutcome]:
    """Decide on the newest history, inside the transaction, and merge the decision."""
    context = open_run(pipeline)
    made: list[Decision] = []
    graded = _due_grades(context, data)

    def body(run: Run) -> None:
        past = ledger.history(context.lake, run.base)
        decision = decide(observed.evidence, _rules(context), past)
        made.append(decision)
        ledger.write(run, Entry(decision, observed.evidence))
        for one in graded:
            ledger.write_grade(run, one)
        lines = b"\n".join(day.to_json() for day in observed.days.values())
        run.put(f"sketches/{decision.id}.jsonl", lines)
        _describe(run, decision, observed)

    inputs = {"data": data, "releases": releases}
    outcome = context.commit_data(STAGE, run_id, body, inputs=inputs, on=on)
    if outcome.already:
        # Another start of this window merged first: its decision is the one.
        return ledger.entry(context.lake, outcome.pin, outcome.record.details["decision"]), outcome
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
    start, end = _window(start, end)
    repository = context.pipeline.repository
    run_id = records.run_id(STAGE, context.pipeline.name, request or f"{start}/{end}")
    data, releases = context.lake.pin(repository, on), context.pin_releases()
    if done := records.find(context.lake, repository, data.commit, stage=STAGE, run=run_id):
        return Completed(message=f"already merged: {done.details['explanation']}")
    champion = open_champion(context, releases, reader="serving")
    if champion is None:
        return Completed(message="Nothing serves yet, so there is nothing to judge.")
    observed = gather_evidence(pipeline, data, champion, start, end)
    decision, outcome = write_ledger(pipeline, run_id, data, releases, observed, on)
    if not outcome.already:
        _announce(context, decision, on)
    _show(decision, observed, outcome)
    return Completed(message=decision.explanation)


def _window(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Whole UTC days."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = end or (flow_run.get_scheduled_start_time() or today).astimezone(UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return start or end - timedelta(days=28), end


def _announce(context: Context, decision: Decision, on: str) -> None:
    kinds = {"retrain": DETECTED, "fix-feed": BROKEN_FEED}
    if decision.action in kinds and on == MAIN:
        announce(
            kinds[decision.action],
            pipeline=context.pipeline.name,
            payload={"decision": decision.id, "explanation": decision.explanation},
        )


def _due_grades(context: Context, data: Pin) -> list[Grade]:
    """Earlier decisions whose labels have come since, by what the champion really lost."""
    done = ledger.grades(context.lake, data)
    due = [
        e
        for e in ledger.entries(context.lake, data)
        if e.decision.id not in done or done[e.decision.id].verdict == "ungraded"
    ]
    return [grade(e.decision, _outcome(context, data, e.evidence), _rules(context)) for e in due]


def _outcome(context: Context, data: Pin, evidence: MonitorEvidence) -> Outcome:
    """Labels that were there when it was decided, or those that have come since."""
    window, advantage = evidence.window, evidence.advantage
    if advantage is None or window.labelled_rows < window.rows / 2:
        advantage = _advantage_now(context, data, evidence)
    if advantage is None:
        return Outcome(labelled_days=0, excess_nats=None)
    return Outcome(labelled_days=advantage.days, excess_nats=advantage.estimate)


def _advantage_now(context: Context, data: Pin, evidence: MonitorEvidence) -> DayTest | None:
    predictions_dataset, window = context.scan(data, PREDICTIONS), evidence.window
    if predictions_dataset is None or not window.rows:
        return None
    served = served_rows(
        context.pipeline,
        predictions_dataset,
        release=evidence.release,
        start=window.start,
        end=window.end,
    )
    return advantage_over(
        context.pipeline,
        context.frames(data),
        served,
        start=window.start,
        challenger_window=CHALLENGER_WINDOW,
    )


def _describe(run: Run, decision: Decision, observed: Observed) -> None:
    evidence = observed.evidence
    run.counts.update(served=evidence.window.rows, labelled=evidence.window.labelled_rows)
    for who, found in (("champion", evidence.measured), ("challenger", evidence.challenger)):
        if found:
            run.metrics[f"{who}:log_loss"] = found.log_loss
            if found.roc_auc is not None:
                run.metrics[f"{who}:roc_auc"] = found.roc_auc
    run.details.update(
        decision=decision.id,
        action=decision.action,
        release=decision.release,
        witness=decision.witness,
        window=[decision.window_start.isoformat(), decision.window_end.isoformat()],
        explanation=decision.explanation,
    )


def _show(decision: Decision, observed: Observed, outcome: RunOutcome) -> None:
    notes = "".join(f"\n- {note}" for note in decision.notes)
    create_markdown_artifact(
        key="decision",
        markdown=f"## {decision.action}\n\n{decision.explanation}\n{notes}\n\n"
        f"Ledger `ledger/{decision.id}.json` at `{outcome.pin.commit}`.",
        description=f"What to do about {decision.release}, and why.",
    )
    ranking = [
        {
            "feature": move.column,
            "PSI": round(move.psi, 4),
            "JS": round(move.js, 4),
            "KS": None if move.ks is None else round(move.ks, 4),
            "moved by (sd)": None if move.shift_sd is None else round(move.shift_sd, 3),
            "day-level t": None if move.test is None else round(move.test.t, 2),
        }
        for move in observed.evidence.drift
    ]
    create_table_artifact(
        key="drift-ranking",
        table=ranking,
        description="Explains, does not alarm: rows of a day depend on each other.",
    )
    if observed.evidence.drift:
        create_image_artifact(key="drift", image_url=drift_plot(observed.evidence))
    if observed.evidence.advantage:
        create_image_artifact(
            key="daily-loss", image_url=daily_loss_plot(observed.scored, decision)
        )


def _rules(context: Context) -> MonitorRules:
    return MonitorRules(checks_per_false_alarm=context.pipeline.checks_per_false_alarm)


def _no_predictions(context: Context) -> Any:
    from flows.tables import predictions_dataset

    return predictions_dataset(context.pipeline).contract.create_empty().lazy()
