from datetime import UTC, datetime

import polars as pl
import pytest

from examples.flights import feed
from examples.flights.pipeline import pipeline
from flows.learn.dataset import Split, split_by_time, training_frame
from flows.learn.fit import Fitted, fit
from flows.train.export import Exported, export
from storage.features import Frames

CUTOFF = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def frames() -> Frames:
    return {name: rows.lazy() for name, rows in feed.year().items()}


@pytest.fixture(scope="session")
def labelled(frames: Frames) -> pl.DataFrame:
    return training_frame(pipeline, frames, cutoff=CUTOFF)


@pytest.fixture(scope="session")
def split(labelled: pl.DataFrame) -> Split:
    return split_by_time(pipeline, labelled, cutoff=CUTOFF)


@pytest.fixture(scope="session")
def fitted(split: Split) -> Fitted:
    return fit(pipeline, split.train)


@pytest.fixture(scope="session")
def exported(fitted: Fitted, split: Split) -> Exported:
    return export(fitted, split.holdout)
