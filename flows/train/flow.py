"""Train: features -> model -> sealed candidate, signed by the trainer, on one pinned data commit.

It holds the trainer's key and no other: whether the candidate is good enough is the gate's to
say, and whether it is released the releaser's.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.context import Context, open_run
from flows.events import TRAINED, announce
from flows.learn.dataset import Split, find_latest_label, prepare_split, round_up_to_second
from flows.learn.fit import Fitted, fit
from flows.ledger import decided_until
from flows.train.candidate import Candidate, describe, make_candidate
from flows.train.seal import Trained, sealed_candidate
from flows.trust.key_access import read_signer
from storage.lake import MAIN, Pin
from storage.registry import candidates, layout
from storage.registry.details import CandidateDetails, TrainDetails, Training
from storage.runs import Outcome, Run, records
from storage.runs.records import Record
from storage.tables.manifests import manifests

STAGE = "train"


@task(cache_policy=NO_CACHE, persist_result=False)
def build_features(pipeline: str | None, data: Pin, cutoff: datetime) -> Split:
    """Point-in-time features and labels at the pin, split by time."""
    context = open_run(pipeline)
    return prepare_split(context.pipeline, context.frames(data), cutoff=cutoff)


@task(cache_policy=NO_CACHE, persist_result=False)
def fit_model(pipeline: str | None, split: Split) -> Fitted:
    """Fit the pipeline's estimator on the training side."""
    return fit(open_run(pipeline).pipeline, split.train)


@task(cache_policy=NO_CACHE, persist_result=False)
def export_model(pipeline: str | None, fitted: Fitted, split: Split) -> Candidate:
    """The files that serve, retrain and watch the model."""
    return make_candidate(open_run(pipeline).pipeline, fitted, split)


@task(cache_policy=NO_CACHE, persist_result=False)
def put_forward(pipeline: str | None, trained: Trained, data: Pin, training: Training) -> Record:
    """Encrypt, sign as trainer, and commit the candidate, once per run."""
    context = open_run(pipeline)
    policy = context.trusted.policy
    with TemporaryDirectory(prefix="headrace-") as work:
        key = read_signer(context.keys, "trainer")
        outcome = candidates.put(
            context.lake,
            context.pipeline.name,
            trained.run_id,
            sealed_candidate(trained, policy, signer=key, work=Path(work)),
            details=CandidateDetails(training=training),
            inputs={"data": data},
            by=context.origin,
        )
    return outcome.record


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
    """
    context = open_run(pipeline)
    name, repository = context.pipeline.name, context.pipeline.repository
    run_id = _run_id(name, on, decision, request)
    started, data = datetime.now(UTC), context.lake.pin(repository, on)
    if done := records.find(context.lake, repository, data.commit, stage=STAGE, run=run_id):
        return Completed(
            message=f"already merged as {done.attempt}: {TrainDetails.of(done).outcome}"
        )

    # An attempt that died after it put its candidate forward: that one stands, and its facts.
    releases = context.pin_releases()
    if found := candidates.candidate_record(context.lake, releases, run_id):
        return _finish(context, found, on)

    reason = _reason(decision, request)
    split = build_features(pipeline, data, _cutoff(context, data, decision, cutoff))
    fitted = fit_model(pipeline, split)
    candidate = export_model(pipeline, fitted, split)
    trained = Trained(
        run_id=run_id,
        pipeline=context.pipeline,
        data={"data": data},
        data_sha256=manifests(context.lake, data, [d.name for d in context.pipeline.datasets]),
        branch=on,
        cutoff=split.cutoff,
        code=context.origin.code,
        hyperparameters=fitted.hyperparameters,
        started=started,
        files=candidate.files,
        reason=reason,
    )
    training = describe(candidate, split, decision=decision, reason=reason, on=on)
    return _finish(context, put_forward(pipeline, trained, data, training), on)


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


def _cutoff(context: Context, data: Pin, decision: str | None, asked: datetime | None) -> datetime:
    """What may be known: what was asked for, what the decision's window knew, or all there is."""
    if asked is not None:
        return round_up_to_second(asked)
    newest = find_latest_label(context.pipeline, context.frames(data))
    known = min(newest, decided_until(context.lake, data, decision)) if decision else newest
    return round_up_to_second(known)


def _reason(decision: str | None, request: str | None) -> str:
    if decision:
        return f"drift decision {decision[:12]}"
    return f"request {request}" if request else "schedule"


def _finish(context: Context, candidate: Record, on: str) -> State[Any]:
    """Merge the run's record, then send the event that has its candidate judged."""
    training = CandidateDetails.of(candidate).training
    data = Pin.parse(candidate.inputs["data"])
    outcome = f"candidate {candidate.run_id[:12]}"

    def body(run: Run) -> None:
        run.counts.update(training.counts)
        run.metrics.update(training.metrics)
        run.describe(replace(training.details, outcome=outcome, candidate=candidate.run_id))

    done = context.commit_data(STAGE, candidate.run_id, body, inputs={"data": data}, on=on)
    _link(data, candidate, done)
    announce(
        TRAINED,
        pipeline=context.pipeline.name,
        payload={"candidate": candidate.run_id, "reason": training.details.reason},
    )
    return Completed(message=outcome)


def _link(data: Pin, candidate: Record, done: Outcome) -> None:
    create_markdown_artifact(
        key="links",
        markdown=(
            f"| what | which |\n|---|---|\n| data commit | `{data}` |\n"
            f"| candidate | `{layout.candidate_folder(candidate.run_id)}` |\n"
            f"| record | `{done.record.path}` at `{done.pin.commit}` |\n"
            f"| code commit | `{done.record.code.get('code_commit', '')}` |\n"
        ),
        description="Data commit, candidate and record of this run.",
    )
