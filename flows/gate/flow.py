"""Gate: a candidate is verified, opened and measured by the gatekeeper, who signs what it found.

It holds the gatekeeper's keys and no other, and takes nothing from the trainer but the sealed
bytes: pin and cutoff are read from the signed provenance, rows from the lake.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import audit
from flows.context import Context, open_run
from flows.errors import EmptyWindow
from flows.events import PASSED, announce
from flows.gate.measure import JudgedGate
from flows.gate.opening import OpenedCandidate, open_candidate
from flows.gate.verdict import (
    Trial,
    Verdict,
    measure_gates,
    name_rival,
    refuse_candidate,
    sign_verdict,
    tabulate_gates,
)
from flows.learn.champion import open_champion
from flows.learn.dataset import Split, add_day, prepare_split
from flows.pipeline.card import render_card
from flows.profile.plots import calibration_plot
from flows.trust.key_access import read_recipient, read_signer
from security.errors import Untrusted
from security.policy.gates import GateEvidence
from storage.errors import NotFound, StorageError
from storage.lake import MAIN, Pin
from storage.registry import candidates, layout
from storage.registry.details import CandidateDetails, Judgement, VerdictDetails
from storage.runs import Run
from storage.runs.records import Record

STAGE = layout.GATE


@task(cache_policy=NO_CACHE, persist_result=False)
def verify_and_open(
    pipeline: str | None, releases: Pin, candidate: str, work: Path
) -> OpenedCandidate:
    """Provenance and claims first; then the payload, for the gatekeeper's eyes."""
    context, path = open_run(pipeline), layout.candidate_folder(candidate)
    with audit.record_refusals(context, actor=STAGE, subject=path, step="candidate"):
        return open_candidate(
            context.lake,
            context.pipeline,
            releases,
            candidate,
            policy=context.trusted.policy,
            recipient=read_recipient(context.keys, "gatekeeper"),
            work=work,
        )


@task(cache_policy=NO_CACHE, persist_result=False)
def rebuild_rows(pipeline: str | None, opened: OpenedCandidate) -> Split:
    """The same rows again, from the pinned data."""
    context = open_run(pipeline)
    return prepare_split(context.pipeline, context.frames(opened.data), cutoff=opened.cutoff)


@task(cache_policy=NO_CACHE, persist_result=False)
def judge_model(pipeline: str | None, trial: Trial) -> tuple[JudgedGate, ...]:
    """Every gate, on the sealed bytes, with the champion scored on the same holdout rows."""
    return measure_gates(open_run(pipeline).pipeline, trial)


@flow(name="gate", persist_result=False)
def gate(candidate: str, pipeline: str | None = None) -> State[Any]:
    """Judge a candidate once; a second start says what was found.

    `candidate` is the run id of its training. One that fails is recorded, and the champion stays.
    """
    context = open_run(pipeline)
    releases = context.pin_releases()
    claims = candidates.candidate_record(context.lake, releases, candidate)
    if claims is None:
        raise NotFound(
            f"There is no candidate {candidate[:12]} in {releases.repository}.",
            remedy="`headrace runs --stage train` lists trainings with their candidates.",
        )
    if found := candidates.verdict_record(context.lake, releases, candidate):
        return _finish(context, found)
    with TemporaryDirectory(prefix="headrace-") as private:
        try:
            opened = verify_and_open(pipeline, releases, candidate, Path(private))
            split = rebuild_rows(pipeline, opened)
        except (Untrusted, EmptyWindow) as error:
            return _finish(context, _record(context, claims, refuse_candidate(error)))
        trial = Trial(opened, split, open_champion(context, releases, reader="gatekeeper"))
        evidence = judge_model(pipeline, trial)
        verdict, signed = sign_verdict(
            context.pipeline,
            trial,
            evidence,
            # Measuring takes a while: the rules are those of the moment of signing.
            policy=context.read_policy_again().trusted.policy,
            signer=read_signer(context.keys, "gatekeeper"),
        )
        _show(trial, evidence)
        _show_card(context, opened, signed)
        record = _record(context, claims, verdict, data=opened.data)
    return _finish(context, record)


def _record(
    context: Context, claims: Record, verdict: Verdict, *, data: Pin | None = None
) -> Record:
    """Evidence and verdict in one commit beside the candidate; whoever comes second reads them."""
    judged = Judgement(
        counts=verdict.counts,
        metrics=verdict.metrics,
        details=replace(verdict.details, decision=_read_claimed_decision(claims)),
    )
    outcome = candidates.put_verdict(
        context.lake,
        context.pipeline.name,
        claims.run_id,
        verdict.files,
        details=VerdictDetails(
            candidate=claims.run_id,
            passed=verdict.passed,
            refused=verdict.refused,
            outcome=verdict.outcome,
            judged=judged,
        ),
        inputs={"data": data} if data else {},
        by=context.origin,
    )
    return outcome.record


def _read_claimed_decision(claims: Record) -> str | None:
    """What its trainer says it was trained for. Nothing depends on it, so it may be anything."""
    with suppress(StorageError):
        return CandidateDetails.of(claims).training.details.decision
    return None


def _finish(context: Context, verdict: Record) -> State[Any]:
    """The verdict among the data's runs too, then the event that has its candidate released."""
    said = VerdictDetails.of(verdict)
    judged, candidate, outcome = said.judged, said.candidate, said.outcome

    def body(run: Run) -> None:
        run.counts.update(judged.counts)
        run.metrics.update(judged.metrics)
        run.describe(
            replace(judged.details, candidate=candidate, outcome=outcome, passed=said.passed)
        )

    inputs = {name: Pin.parse(pin) for name, pin in verdict.inputs.items()}
    branch = judged.details.branch or MAIN
    try:
        done = context.commit_data(STAGE, verdict.run_id, body, inputs=inputs, on=branch)
    except NotFound:
        # A user's branch that is gone; the verdict stands beside the candidate.
        return Completed(message=f"{outcome}; branch {branch} is gone")
    _link(verdict, candidate, f"`{done.record.path}` at `{done.pin.commit}`")
    if said.passed:
        reason = str(judged.details.reason)
        announce(
            PASSED,
            pipeline=context.pipeline.name,
            payload={"candidate": candidate, "reason": reason},
        )
    return (Failed if said.refused else Completed)(message=outcome)


def _show(trial: Trial, evidence: Sequence[JudgedGate]) -> None:
    """Artifacts for the UI: the gates, and how far scores can be believed."""
    create_table_artifact(
        key="gates",
        table=tabulate_gates(evidence),
        description=f"Compared with {name_rival(trial.champion)} on the same holdout rows.",
    )
    holdout = trial.split.holdout
    scored = add_day(holdout).with_columns(score=trial.opened.model.predict(holdout))
    create_image_artifact(
        key="calibration",
        image_url=calibration_plot(scored, "the candidate"),
        description="Predicted probability against observed rate on the holdout.",
    )


def _show_card(context: Context, opened: OpenedCandidate, signed: GateEvidence | None) -> None:
    if signed is None:
        return
    verified = opened.verified
    card = render_card(context.pipeline, verified.build, verified.sealed, signed)
    create_markdown_artifact(key="model-card", markdown=card, description="From evidence only.")


def _link(verdict: Record, candidate: str, record: str) -> None:
    create_markdown_artifact(
        key="links",
        markdown=(
            f"| what | which |\n|---|---|\n"
            f"| data commit | `{verdict.inputs.get('data', 'refused before it was read')}` |\n"
            f"| candidate | `{layout.candidate_folder(candidate)}` |\n"
            f"| verdict | {VerdictDetails.of(verdict).outcome} |\n"
            f"| record | {record} |\n"
            f"| code commit | `{verdict.code.get('code_commit', '')}` |\n"
        ),
        description="Data commit, candidate, verdict and record of this run.",
    )
