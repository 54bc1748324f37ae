"""Candidates in the releases repository: what was trained, beside it what the gates measured.

Its id is the training's run id, so that a training has one candidate however often it starts.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.lake import Lake, Pin, releases
from storage.registry import layout, upload
from storage.runs import Job, Outcome, Provenance, Run, commit_once, records
from storage.runs.details import Details
from storage.runs.records import Record


def put(
    lake: Lake,
    pipeline: str,
    candidate: str,
    folder: Path,
    *,
    details: Details,
    inputs: Mapping[str, Pin],
    by: Provenance | None = None,
) -> Outcome:
    """Commit a candidate's folder, once; `details` are facts about exactly these bytes."""

    def body(run: Run) -> None:
        upload(run, layout.candidate_folder(candidate), folder)
        run.describe(details)

    return commit_once(
        lake, Job(releases(pipeline), layout.CANDIDATE, candidate, inputs=inputs, by=by), body
    )


def put_verdict(
    lake: Lake,
    pipeline: str,
    candidate: str,
    files: Mapping[str, bytes],
    *,
    details: Details,
    inputs: Mapping[str, Pin],
    by: Provenance | None = None,
) -> Outcome:
    """Commit what was found of a candidate, once, with `files` beside it: none if refused."""

    def body(run: Run) -> None:
        for name, data in files.items():
            run.put(f"{layout.candidate_folder(candidate)}/{name}", data)
        run.describe(details)

    return commit_once(
        lake,
        Job(releases(pipeline), layout.GATE, layout.gate_run(candidate), inputs=inputs, by=by),
        body,
    )


def candidate_record(lake: Lake, pin: Pin, candidate: str) -> Record | None:
    """What its training said of the candidate."""
    return records.find(lake, pin.repository, pin.commit, stage=layout.CANDIDATE, run=candidate)


def verdict_record(lake: Lake, pin: Pin, candidate: str) -> Record | None:
    """What the gates found; None while it waits for them."""
    run = layout.gate_run(candidate)
    return records.find(lake, pin.repository, pin.commit, stage=layout.GATE, run=run)
