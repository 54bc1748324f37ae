"""Train: features -> model -> gates -> signed, sealed, registered, on one pinned data commit."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.champion import Champion, champion_of
from flows.decided import decided_until
from flows.events import announce
from flows.learn.dataset import Split
from flows.learn.fit import Fitted
from flows.pipeline import definition_digest
from flows.profile.plots import calibration_plot
from flows.stage import Stage, open_stage
from flows.train.candidate import (
    PROFILE,
    Candidate,
    assess,
    describe,
    latest_label,
    learn,
    prepare,
    reference_profile,
)
from flows.train.card import CardFacts, render_card
from flows.train.seal import Trained, sealed_release
from flows.trust import Trusted
from storage import records
from storage.lake import MAIN, Pin
from storage.registry import ReleaseRef, head, register, registered
from storage.runs import Outcome, Run

STAGE = "train"


@task(cache_policy=NO_CACHE)
def build_features(pipeline: str | None, data: Pin, cutoff: datetime) -> Split:
    """Point-in-time features and labels at the pin, split by time."""
    stage = open_stage(pipeline)
    return prepare(stage.pipeline, stage.frames(data), cutoff=cutoff)


@task(cache_policy=NO_CACHE)
def fit_model(pipeline: str | None, split: Split) -> Fitted:
    """Fit the pipeline's estimator on the training side."""
    return learn(open_stage(pipeline).pipeline, split)


@task(cache_policy=NO_CACHE)
def judge_model(
    pipeline: str | None, fitted: Fitted, split: Split, champion: Champion | None
) -> Candidate:
    """Every gate, with the champion scored on the same holdout rows."""
    scores = champion.score(split.holdout) if champion else None
    against = f"champion {champion.ref}" if champion else ""
    return assess(open_stage(pipeline).pipeline, fitted, split, champion=scores, against=against)


@task(cache_policy=NO_CACHE)
def seal_and_register(pipeline: str | None, trained: Trained, data: Pin) -> ReleaseRef:
    """Encrypt, sign and register the next version, once per run."""
    stage = open_stage(pipeline)
    with TemporaryDirectory(prefix="headrace-") as work:
        sign = sealed_release(trained, Trusted.load(stage.settings.keys), work=Path(work))
        ref, _ = register(
            stage.lake,
            stage.pipeline.name,
            run_id=trained.run_id,
            sign=sign,
            details={"reason": trained.reason, "training": trained.training},
            inputs={"data": data},
            by=stage.by,
        )
    return ref


@flow(name="train", persist_result=False)
def train(
    pipeline: str | None = None,
    on: str = MAIN,
    decision: str | None = None,
    request: str | None = None,
    cutoff: datetime | None = None,
) -> State[Any]:
    """Train once for a decision, a request or a scheduled window.

    `cutoff` is the moment whose knowledge counts; by default that of the newest label.
    A candidate that fails a gate is recorded, and the champion stays.
    """
    stage = open_stage(pipeline)
    name, repository = stage.pipeline.name, stage.pipeline.repository
    run_id = _run_id(name, on, decision, request)
    started, data = datetime.now(UTC), stage.lake.pin(repository, on)
    if done := records.find(stage.lake, repository, data.commit, stage=STAGE, run=run_id):
        return Completed(message=f"already merged as {done.attempt}: {done.details['outcome']}")

    releases, trusted = head(stage.lake, name), Trusted.load(stage.settings.keys)
    # An attempt that died after registering: its release stands, and so do the facts about it.
    if found := registered(stage.lake, name, run_id):
        data, ref = Pin.parse(found.inputs["data"]), ReleaseRef.parse(found.details["release"])
        return _finish(stage, run_id, data, releases, found.details["training"], ref, on)

    champion = champion_of(stage.lake, releases, stage.settings.environment, trusted)
    split = build_features(pipeline, data, _cutoff(stage, data, decision, cutoff))
    fitted = fit_model(pipeline, split)
    candidate = judge_model(pipeline, fitted, split, champion)
    card = _card(stage, data, split, candidate)
    _show(candidate, split, card)
    reason = _reason(decision, request)
    training = describe(candidate, split, decision=decision, reason=reason, on=on)
    if not candidate.passed:
        return _finish(stage, run_id, data, releases, training, None, on)
    profile = reference_profile(stage.pipeline, candidate, split)
    trained = Trained(
        run_id=run_id,
        pipeline=stage.pipeline,
        data={"data": data},
        code=stage.by.code,
        hyperparameters=fitted.hyperparameters,
        started=started,
        files={**candidate.exported.files, PROFILE: profile},
        evidence=candidate.evidence,
        card=card,
        reason=reason,
        parent=champion.verified.digest if champion else None,
        training=training,
    )
    ref = seal_and_register(pipeline, trained, data)
    return _finish(stage, run_id, data, releases, training, ref, on)


def _run_id(name: str, on: str, decision: str | None, request: str | None) -> str:
    """A training on a user's branch is never the one on main."""
    branch = () if on == MAIN else (on,)
    return records.run_id(STAGE, name, *_logical_input(decision, request), *branch)


def _logical_input(decision: str | None, request: str | None) -> tuple[str, str]:
    """What this run is for: two starts for the same thing are one run."""
    if decision:
        return "decision", decision
    if request:
        return "request", request
    if "auto-scheduled" in (flow_run.get_tags() or []):
        return "window", f"{flow_run.get_scheduled_start_time():%Y-%m-%dT%H:%MZ}"
    return "flow run", str(flow_run.get_id())


def _cutoff(stage: Stage, data: Pin, decision: str | None, asked: datetime | None) -> datetime:
    """What may be known: what was asked for, what the decision's window knew, or all there is."""
    if asked is not None:
        return asked
    newest = latest_label(stage.pipeline, stage.frames(data))
    return min(newest, decided_until(stage.lake, data, decision)) if decision else newest


def _reason(decision: str | None, request: str | None) -> str:
    if decision:
        return f"drift decision {decision[:12]}"
    return f"request {request}" if request else "schedule"


def _card(stage: Stage, data: Pin, split: Split, candidate: Candidate) -> str:
    return render_card(
        CardFacts(
            pipeline=stage.pipeline,
            definition_digest=definition_digest(stage.pipeline),
            pins={"data": str(data)},
            hyperparameters=candidate.fitted.hyperparameters,
            seed=candidate.fitted.seed,
            split=split,
            evidence=candidate.evidence,
            sizes=candidate.exported.sizes,
        )
    )


def _show(candidate: Candidate, split: Split, card: str) -> None:
    """Artifacts for the UI: the gates, the card, and how far scores can be believed."""
    create_table_artifact(
        key="gates",
        table=[
            {
                "gate": f"{e.metric} gap by {e.group_by}" if e.group_by else e.metric,
                "value": e.value,
                # The UI reads cells as Markdown, in which >= begins a quotation.
                "required": f"at {'least' if e.comparator == '>=' else 'most'} {e.threshold}",
                "passed": "yes" if e.passed else "NO",
                "of what": e.detail,
            }
            for e in candidate.evidence
        ],
        description=f"Compared with {candidate.against} on the same holdout rows.",
    )
    create_markdown_artifact(key="model-card", markdown=card, description="From evidence only.")
    create_image_artifact(
        key="calibration",
        image_url=calibration_plot(candidate.scored(split), "the candidate"),
        description="Predicted probability against observed rate on the holdout.",
    )


def _finish(
    stage: Stage,
    run_id: str,
    data: Pin,
    releases: Pin,
    training: Mapping[str, Any],
    ref: ReleaseRef | None,
    on: str,
) -> State[Any]:
    """Merge the run's record, then send the event that takes its release on."""
    outcome = f"registered {ref}" if ref else f"champion stays: {'; '.join(training['failed'])}"

    def body(run: Run) -> None:
        run.counts.update(training["counts"])
        run.metrics.update(training["metrics"])
        run.details.update(training["details"], outcome=outcome, release=str(ref) if ref else None)

    inputs = {"data": data, "releases": releases}
    done = stage.merge(STAGE, run_id, body, inputs=inputs, on=on)
    _link(data, ref, done)
    if ref and on == MAIN:
        announce(
            "headrace.release.registered",
            pipeline=stage.pipeline.name,
            payload={"release": str(ref), "reason": str(training["details"]["reason"])},
        )
    return Completed(message=outcome)


def _link(data: Pin, ref: ReleaseRef | None, done: Outcome) -> None:
    create_markdown_artifact(
        key="links",
        markdown=(
            f"| what | which |\n|---|---|\n| data commit | `{data}` |\n"
            f"| release | `{ref or 'none: the champion stays'}` |\n"
            f"| record | `{done.record.path}` at `{done.pin.commit}` |\n"
            f"| code commit | `{done.record.code.get('code_commit', '')}` |\n"
        ),
        description="Data commit, release and record of this run.",
    )
