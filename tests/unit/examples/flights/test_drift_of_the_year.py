"""The example has something to show: a model ages, a fresh one does not, a fault hurts.

The bounds are loose; the exact figures move with scikit-learn.
"""

import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from examples.flights import feed
from examples.flights.faults import broken
from examples.flights.pipeline import pipeline
from flows.learn.dataset import feature_frame, training_frame
from flows.learn.fit import Fitted, fit

pytestmark = pytest.mark.long


def trained_until(frames, month: int) -> Fitted:
    cutoff, _ = feed.month_bounds(month)
    return fit(pipeline, training_frame(pipeline, frames, cutoff=cutoff))


def scored(model: Fitted, frames, truth: pl.LazyFrame, month: int) -> tuple[float, float]:
    """(roc_auc, log_loss) of a month's flights that landed."""
    start, end = feed.month_bounds(month)
    rows = feature_frame(pipeline, frames, start=start, end=end)
    known = truth.filter(pl.col("label").is_not_null())
    both = rows.join(known, on="flight_id", maintain_order="left").collect()
    scores = model.predict(both)
    return roc_auc_score(both["label"], scores), log_loss(both["label"], scores)


@pytest.fixture(scope="module")
def frozen(frames) -> Fitted:
    return trained_until(frames, 4)


@pytest.fixture(scope="module")
def truth(frames) -> pl.LazyFrame:
    return pipeline.labels(frames)


def test_a_model_of_the_winter_predicts_april(frozen, frames, truth):
    auc, _ = scored(frozen, frames, truth, 4)
    assert 0.72 < auc < 0.78


@pytest.mark.parametrize("month", [6, 7, 9])
def test_a_retrained_model_beats_the_frozen_one(frozen, frames, truth, month):
    old_auc, old_loss = scored(frozen, frames, truth, month)
    new_auc, new_loss = scored(trained_until(frames, month), frames, truth, month)
    assert new_auc > old_auc + 0.01
    assert new_loss < old_loss * 0.97


def test_the_broken_month_hurts_more_than_any_season(frozen, frames, truth):
    start, end = feed.month_bounds(5)
    fault = broken(5)
    damaged = dict(frames)
    for name, column in (("arrivals", "known_at"), ("weather", "observed_at")):
        around = frames[name].filter((pl.col(column) < start) | (pl.col(column) >= end))
        damaged[name] = pl.concat([around, fault[name].lazy()])
    clean_auc, clean_loss = scored(frozen, frames, truth, 5)
    auc, loss = scored(frozen, damaged, truth, 5)
    assert auc < clean_auc - 0.03
    assert loss > clean_loss + 0.1
