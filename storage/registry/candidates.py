"""Candidates in the releases repository: what was trained, beside it what the gates measured.

candidates/<id>/...    provenance and sealed payload; the evidence once it was judged

The id is the training's run id, so that a training has one candidate however often it starts.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.lake import Lake, Pin, releases
from storage.registry import upload
from storage.runs import Outcome, Provenance, Run, commit_once, records
from storage.runs.records import Record

CANDIDATE, GATE = "candidate", "gate"


def path_of(candidate: str) -> str:
    """The candidate's folder in the releases repository."""
    return f"candidates/{candidate}"


def put(
    lake: Lake,
    pipeline: str,
    candidate: str,
    folder: Path,
    *,
    details: Mapping[str, object],
    inputs: Mapping[str, Pin],
    by: Provenance | None = None,
) -> Outcome:
    """Commit a candidate's folder, once; `details` are facts about exactly these bytes."""

    def body(run: Run) -> None:
        upload(run, path_of(candidate), folder)
        run.details.update(details)

    return commit_once(
        lake,
        releases(pipeline),
        stage=CANDIDATE,
        run_id=candidate,
        body=body,
        inputs=inputs,
        by=by,
    )


def put_verdict(
    lake: Lake,
    pipeline: str,
    candidate: str,
    files: Mapping[str, bytes],
    *,
    details: Mapping[str, object],
    inputs: Mapping[str, Pin],
    by: Provenance | None = None,
) -> Outcome:
    """Commit what was found of a candidate, once, with `files` beside it: none if refused."""

    def body(run: Run) -> None:
        for name, data in files.items():
            run.put(f"{path_of(candidate)}/{name}", data)
        run.details.update(details, candidate=candidate)

    return commit_once(
        lake,
        releases(pipeline),
        stage=GATE,
        run_id=gate_run(candidate),
        body=body,
        inputs=inputs,
        by=by,
    )


def gate_run(candidate: str) -> str:
    """The run id of the candidate's one judgement."""
    return records.run_id(GATE, candidate)


def candidate_record(lake: Lake, pin: Pin, candidate: str) -> Record | None:
    """What its training said of the candidate."""
    return records.find(lake, pin.repository, pin.commit, stage=CANDIDATE, run=candidate)


def verdict_record(lake: Lake, pin: Pin, candidate: str) -> Record | None:
    """What the gates found; None while it waits for them."""
    run = gate_run(candidate)
    return records.find(lake, pin.repository, pin.commit, stage=GATE, run=run)
