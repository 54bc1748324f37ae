"""A fitted model, its files, and what its trainer says of it; the gates come later, elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from flows.learn.dataset import Split, add_day
from flows.learn.exported import PROFILE
from flows.learn.fit import Fitted
from flows.pipeline import Pipeline
from flows.profile.performance import performance
from flows.profile.profile import Holdout, Profile
from flows.train.export import export
from storage.registry.details import TrainDetails, Training


@dataclass(frozen=True)
class Candidate:
    """What a training made. `metrics` are its own quick look, which opens no gate."""

    fitted: Fitted
    files: Mapping[str, bytes]
    metrics: Mapping[str, float]


def make_candidate(pipeline: Pipeline, fitted: Fitted, split: Split) -> Candidate:
    """Export the model, with the profile that monitoring will compare with."""
    scored = add_day(split.holdout).with_columns(score=pl.Series(fitted.predict(split.holdout)))
    profile = Profile.of(
        add_day(split.train), day="day", columns=pipeline.features, holdout=Holdout.of(scored)
    )
    files = {**export(fitted, split.holdout), PROFILE: profile.to_json()}
    return Candidate(fitted, files, _own_look(scored))


def describe(
    candidate: Candidate, split: Split, *, decision: str | None, reason: str, on: str
) -> Training:
    """What the run's record will say; it is committed with the candidate, so that it cannot
    come to speak of another model."""
    return Training(
        counts={"train": split.train.height, "holdout": split.holdout.height},
        metrics=dict(candidate.metrics),
        details=TrainDetails(
            decision=decision,
            reason=reason,
            branch=on,
            cutoff=split.cutoff.isoformat(),
            boundary=split.boundary.isoformat(),
            hyperparameters=dict(candidate.fitted.hyperparameters),
        ),
    )


def _own_look(scored: pl.DataFrame) -> dict[str, float]:
    found = performance(scored)
    seen = {"log_loss": found.log_loss, "brier": found.brier, "roc_auc": found.roc_auc}
    return {name: value for name, value in seen.items() if value is not None}
