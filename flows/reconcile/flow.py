"""Reconcile: what the records ask for and no run has answered is started, from the lake's truth.

It belongs to no stage: it reads what two of them left in the lake and starts the next.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed

from flows.monitor import ledger
from flows.serve.fresh import refresh_timestamp
from flows.stage import Stage, open_stage
from flows.trust import Trusted
from storage import records
from storage.lake import MAIN, Pin
from storage.reaper import reap
from storage.registry import ReleaseRef, head

GRACE = timedelta(minutes=1)
STAGE_DEADLINE = timedelta(hours=6)


@flow(name="reconcile", persist_result=False)
def reconcile(pipeline: str | None = None) -> State[Any]:
    """Start unanswered retrainings and promotions once, refresh timestamps, reap old branches."""
    stage = open_stage(pipeline)
    data, releases = (
        stage.lake.pin(stage.pipeline.repository),
        head(stage.lake, stage.pipeline.name),
    )
    retrained = [_start_training(decision) for decision in unanswered(stage, data)]
    promoted = [
        _start_promotion(stage, ref, reason) for ref, reason in unpromoted(stage, data, releases)
    ]
    reaped = [
        branch
        for repository in (stage.pipeline.repository, stage.pipeline.releases)
        for branch in reap(stage.lake, repository, older_than=STAGE_DEADLINE)
    ]
    signed = refresh_timestamp(
        stage.lake,
        stage.pipeline,
        environment=stage.settings.environment,
        trusted=Trusted.load(stage.settings.keys),
        by=stage.by,
    )
    return Completed(
        message=f"{len(retrained)} retrainings and {len(promoted)} promotions started, "
        f"timestamp {'signed' if signed else 'still fresh'}, {len(reaped)} branches reaped."
    )


def unanswered(stage: Stage, data: Pin) -> list[str]:
    """Decisions to retrain that no training run has answered, older than the grace period."""
    done = ledger.answered(stage.lake, data)
    merged = {
        str(r.details["decision"]): datetime.fromisoformat(r.started_at)
        for r in records.at(stage.lake, data, stage="monitor")
    }
    now = datetime.now(UTC)
    return [
        e.decision.id
        for e in ledger.entries(stage.lake, data)
        if e.decision.action == "retrain"
        and e.decision.id not in done
        and now - merged.get(e.decision.id, now) > GRACE
    ]


def unpromoted(stage: Stage, data: Pin, releases: Pin) -> list[tuple[ReleaseRef, str]]:
    """The newest release trained on main, and why, if no index of the environment ever named it."""
    trained = {
        ReleaseRef.parse(r.details["release"]): r
        for r in records.at(stage.lake, data, stage="train")
        if r.details.get("release") and r.details.get("branch", MAIN) == MAIN
    }
    if not trained:
        return []
    newest = max(trained)
    named = {
        r.details["release"]
        for r in records.at(stage.lake, releases, stage="serve")
        if r.details["environment"] == stage.settings.environment
    }
    since = datetime.fromisoformat(trained[newest].started_at)
    waiting = str(newest) not in named and datetime.now(UTC) - since > GRACE
    return [(newest, str(trained[newest].details["reason"]))] if waiting else []


def _start_training(decision: str) -> str:
    run_deployment(
        "train/train",
        parameters={"decision": decision},
        idempotency_key=_hourly(decision),
        timeout=0,
    )
    return decision


def _start_promotion(stage: Stage, ref: ReleaseRef, reason: str) -> str:
    run_deployment(
        "serve/serve",
        # The event's own reason: both starts are then one promotion.
        parameters={"release": str(ref), "reason": reason},
        idempotency_key=_hourly(f"{stage.settings.environment}:{ref}"),
        timeout=0,
    )
    return str(ref)


def _hourly(key: str) -> str:
    """One start an hour: a run that died does not stand in the way of the next for ever."""
    return f"{key}:{datetime.now(UTC):%Y-%m-%dT%H}"
