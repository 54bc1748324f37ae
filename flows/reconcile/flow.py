"""Reconcile: what the records ask for and no run has answered is started, from the lake's truth.

It belongs to no stage and holds no role's key: it reads what the stages left in the lake and
starts the next of them.
"""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed

from flows import audit
from flows.context import Context, open_run
from flows.reconcile import open_work
from flows.reconcile.open_work import OpenCandidates
from storage.lake import Pin
from storage.runs.reaper import STAGE_DEADLINE, reap


@flow(name="reconcile", persist_result=False)
def reconcile(pipeline: str | None = None) -> State[Any]:
    """Start unanswered retrainings, judgements and releases once; reap; compact records."""
    context = open_run(pipeline)
    lake, now = context.lake, datetime.now(UTC)
    data, releases = lake.pin(context.repository), context.pin_releases()
    waiting = open_work.read_candidates(lake, releases)
    retrained = [
        _start("train", "decision", one) for one in open_work.find_unanswered(lake, data, now)
    ]
    judged = [
        _start("gate", "candidate", one) for one in open_work.find_overdue(waiting.unjudged, now)
    ]
    released = [
        _start("serve", "candidate", one) for one in find_unreleased(context, waiting, releases)
    ]
    reaped = [
        branch
        for pin in (data, releases)
        for branch in reap(lake, pin.repository, older_than=STAGE_DEADLINE)
    ]
    told = audit.collect_events(lake, context.pipeline.name, by=context.origin)
    compacted = open_work.compact_records(lake, data, releases, by=context.origin)
    return Completed(
        message=f"{len(retrained)} retrainings, {len(judged)} judgements and {len(released)} "
        f"releases started, {len(reaped)} branches reaped, {told} audit events taken over"
        f"{f', {compacted} records compacted' if compacted else ''}."
    )


def find_unreleased(context: Context, waiting: OpenCandidates, releases: Pin) -> list[str]:
    """Candidates that passed and were not registered, and the newest that was not promoted."""
    now, environment = datetime.now(UTC), context.settings.environment
    found = open_work.find_overdue(waiting.unregistered, now)
    if (newest := waiting.newest) is None:
        return found
    current = context.trusted.newest_index(context.lake, releases, environment)
    champion = current.index.release.digest if current else None
    is_left = open_work.is_unpromoted(newest, environment, champion, now)
    return [*found, newest.candidate] if is_left else found


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
