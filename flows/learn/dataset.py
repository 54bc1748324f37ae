"""From datasets to rows to score, and to rows to learn from.

A training set is dated by its cutoff: it holds what could be known then and nothing else. The
trainer learns from it, and the gatekeeper builds the same rows again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from flows.errors import EmptyWindow
from flows.pipeline import Pipeline
from storage.features import Frames, get_historical_features


@dataclass(frozen=True)
class Split:
    """Rows to learn from and later rows to judge on; both are `training_frame`s.

    Every label in `train` was known before the first row of `holdout` had to be predicted.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    boundary: datetime
    cutoff: datetime


def feature_frame(
    pipeline: Pipeline, frames: Frames, *, start: datetime | None = None, end: datetime
) -> pl.LazyFrame:
    """Rows to score with `at` in [start, end): key, `at`, then the features in order.

    Only the history that the views can reach is read, so a month costs a month.
    Features are Float64, or String if categorical; sorted by `at`.
    """
    frames = _keep_within_reach(pipeline, frames, start)
    entities = pipeline.entities(frames).filter(pl.col("at") < end)
    if start is not None:
        entities = entities.filter(pl.col("at") >= start)
    joined = get_historical_features(entities, pipeline.views, frames)
    return joined.select(pipeline.key, "at", *_cast_features(pipeline))


def training_frame(
    pipeline: Pipeline, frames: Frames, *, cutoff: datetime, start: datetime | None = None
) -> pl.DataFrame:
    """`feature_frame` up to the cutoff, with `label` (0, 1) and `known_at` where known by then.

    `start` defaults to the pipeline's training window before the cutoff, plus the holdout.
    Raises: EmptyWindow if no row has a label.
    """
    if start is None and pipeline.training_window is not None:
        start = cutoff - pipeline.holdout - pipeline.training_window
    known = pipeline.labels(frames).filter(
        pl.col("label").is_not_null(), pl.col("known_at") <= cutoff
    )
    rows = feature_frame(pipeline, frames, start=start, end=cutoff)
    labelled = rows.join(
        known.select(pipeline.key, "label", "known_at"), on=pipeline.key, maintain_order="left"
    ).collect()
    if labelled.is_empty():
        raise EmptyWindow(
            f"no row of {pipeline.name} between {start} and {cutoff} has a label yet",
            remedy="wait for labels, or check that their feed arrives",
        )
    return labelled


def split_by_time(pipeline: Pipeline, frame: pl.DataFrame, *, cutoff: datetime) -> Split:
    """Judge on the last `holdout` before the cutoff, learn from what was known before that.

    A row from before the boundary whose label came after it is in neither.
    Raises: EmptyWindow if a side is empty or holds one class only.
    """
    boundary = cutoff - pipeline.holdout
    train = frame.filter(pl.col("at") < boundary, pl.col("known_at") <= boundary)
    holdout = frame.filter(pl.col("at") >= boundary, pl.col("at") < cutoff)
    for name, side in (("training", train), ("holdout", holdout)):
        if side["label"].n_unique() < 2:
            raise EmptyWindow(
                f"the {name} rows around {boundary} ({side.height}) do not show both classes",
                remedy="widen the training window or the holdout",
            )
    return Split(train, holdout, boundary, cutoff)


def find_latest_label(pipeline: Pipeline, frames: Frames) -> datetime:
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


def round_up_to_second(moment: datetime) -> datetime:
    """The moment itself, or the next whole second: what signed statements can hold."""
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


def prepare_split(pipeline: Pipeline, frames: Frames, *, cutoff: datetime) -> Split:
    """Rows to learn from and to judge on, as they were known at the cutoff."""
    frame = training_frame(pipeline, frames, cutoff=cutoff)
    return split_by_time(pipeline, frame, cutoff=cutoff)


def add_day(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their `day`, the unit that dependent rows are judged by."""
    return frame.with_columns(day=pl.col("at").dt.date())


def _keep_within_reach(pipeline: Pipeline, frames: Frames, start: datetime | None) -> Frames:
    since = None if start is None else pipeline.reads_since(start)
    if since is None:
        return frames
    event_times = {d.name: d.event_time for d in pipeline.datasets if d.event_time}
    return {
        name: frame.filter(pl.col(event_times[name]) >= since) if name in event_times else frame
        for name, frame in frames.items()
    }


def _cast_features(pipeline: Pipeline) -> list[pl.Expr]:
    return [
        pl.col(name).cast(pl.String if name in pipeline.categorical else pl.Float64)
        for name in pipeline.features
    ]
