"""The rows of one training: what the trainer learns from, and what the gatekeeper rebuilds."""

from datetime import datetime, timedelta

import polars as pl

from flows.errors import EmptyWindow
from flows.learn.dataset import Split, split_by_time, training_frame
from flows.pipeline import Pipeline
from storage.features import Frames


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


def whole_second(moment: datetime) -> datetime:
    """The moment itself, or the next whole second: what signed statements can hold."""
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


def prepare(pipeline: Pipeline, frames: Frames, *, cutoff: datetime) -> Split:
    """Rows to learn from and to judge on, as they were known at the cutoff."""
    frame = training_frame(pipeline, frames, cutoff=cutoff)
    return split_by_time(pipeline, frame, cutoff=cutoff)


def by_day(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their `day`, the unit that dependent rows are judged by."""
    return frame.with_columns(day=pl.col("at").dt.date())
