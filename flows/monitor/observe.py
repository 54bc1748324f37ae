"""What was served in a window, put beside the truth and beside a fresh challenger."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from flows.errors import EmptyWindow
from flows.learn.dataset import training_frame
from flows.learn.fit import fit
from flows.monitor.contracts import FeedRules
from flows.monitor.evidence import MonitorEvidence, gather
from flows.monitor.rules import MonitorRules
from flows.pipeline import Pipeline
from flows.profile.day_means import DayTest
from flows.profile.performance import challenger_advantage, labelled
from flows.profile.profile import Days, Profile, sketch_days
from storage.features import Frames


@dataclass(frozen=True)
class Observed:
    """One window: its day sketches, its scored rows (see `performance`) and the evidence."""

    days: Days
    scored: pl.DataFrame
    evidence: MonitorEvidence


def served_rows(
    pipeline: Pipeline, predictions: pl.LazyFrame, *, release: str, start: datetime, end: datetime
) -> pl.DataFrame:
    """The last prediction of each key that the release made for [start, end), in time order."""
    within = (pl.col("at") >= start) & (pl.col("at") < end) & (pl.col("release") == release)
    rows = predictions.filter(within).sort("predicted_at").collect()
    last = rows.unique(pipeline.key, keep="last", maintain_order=True)
    return last.sort("at", maintain_order=True).with_columns(day=pl.col("at").dt.date())


def observe(
    pipeline: Pipeline,
    frames: Frames,
    served: pl.DataFrame,
    *,
    release: str,
    profile: Profile,
    start: datetime,
    end: datetime,
    rules: MonitorRules,
    challenger_window: timedelta,
) -> Observed:
    """Evidence on the window from what was served in it.

    The challenger is fitted on what was known before the window and scores the very features
    that were served, so that the two differ in nothing but what they learned from.
    """
    scored = _labelled(pipeline, frames, served)
    scored = _challenged(pipeline, frames, scored, start=start, window=challenger_window)
    days = sketch_days(served, profile.grid, day="day") if served.height else {}
    evidence = gather(
        pipeline=pipeline.name,
        release=release,
        start=start,
        end=end,
        profile=profile,
        days=days,
        scored=scored,
        feed_rules=FeedRules(),
        failure_margin=rules.failure_nats,
    )
    return Observed(days, scored, evidence)


def advantage_over(
    pipeline: Pipeline,
    frames: Frames,
    served: pl.DataFrame,
    *,
    start: datetime,
    challenger_window: timedelta,
) -> DayTest | None:
    """What a challenger of that time would have gained, by the labels there are now."""
    scored = _labelled(pipeline, frames, served)
    if labelled(scored).is_empty():
        return None
    scored = _challenged(pipeline, frames, scored, start=start, window=challenger_window)
    try:
        return challenger_advantage(scored) if "challenger_score" in scored.columns else None
    except EmptyWindow:
        return None


def _labelled(pipeline: Pipeline, frames: Frames, served: pl.DataFrame) -> pl.DataFrame:
    labels = pipeline.labels(frames).select(pipeline.key, "label").collect()
    return served.join(labels, on=pipeline.key, how="left", maintain_order="left")


def _challenged(
    pipeline: Pipeline,
    frames: Frames,
    scored: pl.DataFrame,
    *,
    start: datetime,
    window: timedelta,
) -> pl.DataFrame:
    if scored.is_empty():
        return scored
    try:
        known = training_frame(pipeline, frames, cutoff=start, start=start - window)
    except EmptyWindow:
        return scored
    challenger = fit(pipeline, known)
    return scored.with_columns(challenger_score=pl.Series(challenger.predict(scored)))
