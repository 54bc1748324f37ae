"""Reconcile: what the records ask for and no run has answered is started, from the lake's truth.

It belongs to no stage and holds no role's key: it reads what the stages left in the lake and
starts the next of them.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed

from flows import audit
from flows.context import Context, open_run
from flows.ledger import read_states
from storage.lake import MAIN, Pin
from storage.registry import ReleaseRef, layout
from storage.runs import records
from storage.runs.reaper import STAGE_DEADLINE, reap
from storage.runs.records import Record

GRACE = timedelta(minutes=1)


@flow(name="reconcile", persist_result=False)
def reconcile(pipeline: str | None = None) -> State[Any]:
    """Start unanswered retrainings, judgements and releases once; reap old branches."""
    context = open_run(pipeline)
    data = context.lake.pin(context.pipeline.repository)
    releases = context.pin_releases()
    retrained = [_start("train", "decision", one) for one in unanswered(context, data)]
    judged = [_start("gate", "candidate", one) for one in unjudged(context, releases)]
    released = [_start("serve", "candidate", one) for one in unreleased(context, releases)]
    reaped = [
        branch
        for repository in (context.pipeline.repository, context.pipeline.releases)
        for branch in reap(context.lake, repository, older_than=STAGE_DEADLINE)
    ]
    told = audit.collect_events(context.lake, context.pipeline.name, by=context.origin)
    return Completed(
        message=f"{len(retrained)} retrainings, {len(judged)} judgements and {len(released)} "
        f"releases started, {len(reaped)} branches reaped, {told} audit events taken over."
    )


def unanswered(context: Context, data: Pin) -> list[str]:
    """Decisions to retrain that no training run has answered, older than the grace period."""
    return [
        decision.id
        for decision in read_states(context.lake, data)
        if decision.asks and decision.decided_at and _waits_too_long(decision.decided_at)
    ]


def unjudged(context: Context, releases: Pin) -> list[str]:
    """Candidates that no gate has found anything of, older than the grace period."""
    judged = {str(r.details["candidate"]) for r in _verdicts(context, releases)}
    found = records.at(context.lake, releases, stage=layout.CANDIDATE)
    return [r.run_id for r in found if r.run_id not in judged and _waits_too_long(r.started_at)]


def unreleased(context: Context, releases: Pin) -> list[str]:
    """Candidates that passed and were not registered, and the newest that was not promoted."""
    registered = {
        str(r.details["candidate"]): r
        for r in records.at(context.lake, releases, stage=layout.REGISTER)
        if "candidate" in r.details
    }
    waiting = [
        str(r.details["candidate"])
        for r in _verdicts(context, releases)
        if r.details["passed"]
        and r.details["candidate"] not in registered
        and _waits_too_long(r.started_at)
    ]
    return waiting + _unpromoted(context, releases, registered)


def _unpromoted(context: Context, releases: Pin, registered: dict[str, Record]) -> list[str]:
    """The newest release of main that no index of the environment ever named, if it still may be:
    one measured against another champion than today's waits for a person."""
    on_main = {
        ReleaseRef.parse(r.details["release"]): r
        for r in registered.values()
        if r.details["branch"] == MAIN
    }
    if not on_main:
        return []
    newest, environment = max(on_main), context.settings.environment
    named = {
        r.details["release"]
        for r in records.at(context.lake, releases, stage=layout.SERVE)
        if r.details["environment"] == environment
    }
    current = context.trusted.newest_index(context.lake, releases, environment)
    may = on_main[newest].details["against"] == (current.index.release.digest if current else None)
    waits = may and str(newest) not in named and _waits_too_long(on_main[newest].started_at)
    return [str(on_main[newest].details["candidate"])] if waits else []


def _verdicts(context: Context, releases: Pin) -> list[Record]:
    return records.at(context.lake, releases, stage=layout.GATE)


def _waits_too_long(since: str) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(since) > GRACE


def _start(stage: str, parameter: str, value: str) -> str:
    run_deployment(
        f"{stage}/{stage}",
        parameters={parameter: value},
        idempotency_key=hourly(f"{stage}:{value}", datetime.now(UTC)),
        timeout=0,
    )
    return value


def hourly(key: str, now: datetime) -> str:
    """One start an hour: a run that died does not stand in the way of the next for ever."""
    return f"{key}:{now:%Y-%m-%dT%H}"
