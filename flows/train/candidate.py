"""A candidate and everything that is measured of it, before anybody signs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from flows.errors import EmptyWindow
from flows.learn.dataset import Split, split_by_time, training_frame
from flows.learn.fit import Fitted, Floats, fit
from flows.pipeline import Pipeline
from flows.profile.profile import Holdout, Profile
from flows.train.export import Exported, export
from flows.train.gates import Evidence, judge
from storage.features import Frames

PROFILE = "profile.json"


@dataclass(frozen=True)
class Candidate:
    """A fitted model, its files and its evidence. `against` says whom it was compared with."""

    fitted: Fitted
    exported: Exported
    evidence: Sequence[Evidence]
    scores: Floats
    against: str

    @property
    def passed(self) -> bool:
        """Whether every gate did."""
        return all(one.passed for one in self.evidence)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The ungrouped gates' values."""
        return {e.metric: float(e.value) for e in self.evidence if not e.group_by}

    def scored(self, split: Split) -> pl.DataFrame:
        """The holdout with `day` and the candidate's `score`."""
        return _by_day(split.holdout).with_columns(score=pl.Series(self.scores))


def latest_label(pipeline: Pipeline, frames: Frames) -> datetime:
    """When the newest label became known: the moment the data speak of.

    Raises: EmptyWindow if there is none.
    """
    newest = pipeline.labels(frames).drop_nulls("label").select(pl.col("known_at").max())
    moment: datetime | None = newest.collect().item()
    if moment is None:
        raise EmptyWindow(
            f"{pipeline.name} has no label yet", remedy="deliver labels and ingest them first"
        )
    return moment


def prepare(pipeline: Pipeline, frames: Frames, *, cutoff: datetime) -> Split:
    """Rows to learn from and to judge on, as they were known at the cutoff."""
    frame = training_frame(pipeline, frames, cutoff=cutoff)
    return split_by_time(pipeline, frame, cutoff=cutoff)


def learn(pipeline: Pipeline, split: Split) -> Fitted:
    """The candidate model."""
    return fit(pipeline, split.train)


def assess(
    pipeline: Pipeline,
    fitted: Fitted,
    split: Split,
    *,
    champion: Floats | None,
    against: str,
) -> Candidate:
    """Export, and judge by every gate on the holdout.

    `champion` holds the champion's probabilities for the holdout; without one the candidate is
    compared with the share of positives in its training rows, so that the gate is never idle.
    """
    exported = export(fitted, split.holdout)
    prior = np.full(split.holdout.height, split.train["label"].to_numpy().mean())
    evidence = judge(
        pipeline,
        fitted,
        split,
        exported,
        champion_scores=prior if champion is None else champion,
    )
    named = against if champion is not None else "the base rate: there is no champion yet"
    return Candidate(fitted, exported, evidence, fitted.predict(split.holdout), named)


def reference_profile(pipeline: Pipeline, candidate: Candidate, split: Split) -> bytes:
    """What monitoring will compare with: the training rows, and the holdout's daily loss."""
    return Profile.of(
        _by_day(split.train),
        day="day",
        columns=pipeline.features,
        holdout=Holdout.of(candidate.scored(split)),
    ).to_json()


def describe(
    candidate: Candidate, split: Split, *, decision: str | None, reason: str, on: str
) -> dict[str, Any]:
    """What the run's record will say; it is registered with the release, so that it cannot
    come to speak of another model."""
    return {
        "counts": {"train": split.train.height, "holdout": split.holdout.height},
        "metrics": dict(candidate.metrics),
        "failed": [str(e) for e in candidate.evidence if not e.passed],
        "details": {
            "decision": decision,
            "reason": reason,
            "branch": on,
            "cutoff": split.cutoff.isoformat(),
            "boundary": split.boundary.isoformat(),
            "against": candidate.against,
            "gates": [{"gate": str(e), "passed": e.passed} for e in candidate.evidence],
            "hyperparameters": dict(candidate.fitted.hyperparameters),
        },
    }


def _by_day(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(day=pl.col("at").dt.date())
