"""What is served is what would have been trained on, on real flights."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from examples.flights import feed
from examples.flights.faults import broken
from examples.flights.pipeline import pipeline
from flows.learn.dataset import feature_frame
from storage.features import OnlineStore

SERVED = [name for view in pipeline.views for name in view.features]


@pytest.mark.parametrize(
    "moment",
    [datetime(2013, 3, 10, 12, tzinfo=UTC), datetime(2013, 7, 8, 22, tzinfo=UTC),
     datetime(2013, 11, 3, 13, tzinfo=UTC)],
)  # fmt: skip
def test_the_online_store_answers_as_the_training_set_does(frames, moment):
    due = feature_frame(
        pipeline, frames, start=moment, end=moment + timedelta(microseconds=1)
    ).collect()
    assert due.height >= 5
    store = OnlineStore.snapshot(pipeline.views, frames, at=moment)
    tails = feed.year()["flights"].select("flight_id", "tailnum")
    for row in due.join(tails, on="flight_id").to_dicts():
        assert store.lookup(row, at=moment) == {name: row[name] for name in SERVED}


def test_a_silent_feed_goes_stale_and_then_null_the_same_way_in_both():
    feeds = broken(5)
    frames = {name: rows.lazy() for name, rows in feeds.items()}
    start, end = feed.month_bounds(5)
    month = feature_frame(pipeline, frames, start=start, end=end).collect()
    stale = month.filter(
        pl.col("at").is_between(start + timedelta(days=4), start + timedelta(days=5))
    )
    dead = month.filter(pl.col("at") > start + timedelta(days=6, hours=1))
    assert stale["origin_late_3h"].n_unique() <= 3
    assert dead["origin_late_3h"].null_count() == dead.height > 20_000
    moment = start + timedelta(days=6, hours=1)
    row = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "tailnum": None}
    served = OnlineStore.snapshot(pipeline.views, frames, at=moment).lookup(row, at=moment)
    assert all(served[f"{of}_late_1h"] is None for of in ("carrier", "origin", "dest"))
