"""What was served in a window, put beside the truth and beside a fresh challenger."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from flows.context import Context
from flows.errors import EmptyWindow
from flows.learn.dataset import add_day, training_frame
from flows.learn.fit import fit
from flows.monitor.evidence import MonitorEvidence, ReleaseWindow, ServedWindow, gather
from flows.monitor.rules import MonitorRules
from flows.pipeline import Pipeline
from flows.profile.day_means import DayTest
from flows.profile.performance import challenger_advantage, keep_labelled
from flows.profile.profile import Profile, sketch_days
from flows.tables import PREDICTIONS, predictions_dataset
from storage.features import Frames
from storage.lake import Pin

# Judged if no other window was asked for.
WINDOW = timedelta(days=28)


@dataclass(frozen=True)
class KnownData:
    """A pipeline's datasets at one commit, and what was predicted by then."""

    pipeline: Pipeline
    frames: Frames
    predictions: pl.LazyFrame

    @classmethod
    def at(cls, context: Context, pin: Pin) -> "KnownData":
        """What the pin holds. Raises: NotFound for a dataset without a batch."""
        pipeline, found = context.pipeline, context.scan(pin, PREDICTIONS)
        if found is None:
            found = predictions_dataset(pipeline).contract.create_empty().lazy()
        return cls(pipeline, context.frames(pin), found)


@dataclass(frozen=True)
class Observation:
    """One window as it was served, and the evidence gathered from it."""

    served: ServedWindow
    evidence: MonitorEvidence


def choose_days(
    start: datetime | None, end: datetime | None, *, scheduled: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    """What was asked for; else the 28 whole days before the scheduled start, or before now."""
    if end is None:
        end = (scheduled or now).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return start or end - WINDOW, end


def observe(
    known: KnownData, window: ReleaseWindow, profile: Profile, rules: MonitorRules
) -> Observation:
    """Evidence on the window from what was served in it."""
    rows = select_served(known, window)
    scored = add_challenger(known, add_labels(known, rows), window, rules)
    days = sketch_days(rows, profile.grid, day="day") if rows.height else {}
    served = ServedWindow(window, days, scored)
    return Observation(served, gather(served, profile, rules))


def measure_advantage(
    known: KnownData, window: ReleaseWindow, rules: MonitorRules
) -> DayTest | None:
    """What a challenger of that time would have gained, by the labels there are now."""
    scored = add_labels(known, select_served(known, window))
    if keep_labelled(scored).is_empty():
        return None
    scored = add_challenger(known, scored, window, rules)
    try:
        return challenger_advantage(scored) if "challenger_score" in scored.columns else None
    except EmptyWindow:
        return None


def select_served(known: KnownData, window: ReleaseWindow) -> pl.DataFrame:
    """The last prediction of each key that the release made in the window, in time order."""
    within = (pl.col("at") >= window.start) & (pl.col("at") < window.end)
    served = known.predictions.filter(within & (pl.col("release") == window.release))
    rows = served.sort("predicted_at").collect()
    last = rows.unique(known.pipeline.key, keep="last", maintain_order=True)
    return add_day(last.sort("at", maintain_order=True))


def add_labels(known: KnownData, served: pl.DataFrame) -> pl.DataFrame:
    """The rows with their `label`, null where the truth is not known."""
    key = known.pipeline.key
    labels = known.pipeline.labels(known.frames).select(key, "label").collect()
    return served.join(labels, on=key, how="left", maintain_order="left")


def add_challenger(
    known: KnownData, scored: pl.DataFrame, window: ReleaseWindow, rules: MonitorRules
) -> pl.DataFrame:
    """The rows with a `challenger_score`; without it if there was nothing to learn from.

    The challenger is fitted on what was known before the window and scores the very features
    that were served, so that the two differ in nothing but what they learned from.
    """
    if scored.is_empty():
        return scored
    start = window.start
    try:
        before = training_frame(
            known.pipeline, known.frames, cutoff=start, start=start - rules.challenger_window
        )
    except EmptyWindow:
        return scored
    challenger = fit(known.pipeline, before)
    return scored.with_columns(challenger_score=pl.Series(challenger.predict(scored)))
