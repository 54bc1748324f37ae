"""Nothing after the prediction enters a feature: searched row by row, and by changing it."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from examples.flights import feed
from examples.flights.pipeline import pipeline
from examples.flights.views import RATE_LIFETIME, RATE_WINDOWS_H
from flows.learn.dataset import feature_frame

START, END = feed.month_bounds(3)
NOW = datetime(2013, 3, 11, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def march(frames) -> pl.DataFrame:
    return feature_frame(pipeline, frames, start=START, end=END).collect()


@pytest.fixture(scope="module")
def landings() -> pl.DataFrame:
    both = feed.year()["arrivals"].join(feed.year()["flights"], on="flight_id")
    return both.drop_nulls("arrived_at").select(
        "flight_id", "carrier", "origin", "dest", "arrived_at", late=pl.col("arr_delay_min") > 15
    )


def rate_by_search(landings: pl.DataFrame, of: str, row: dict, hours: int) -> float | None:
    """The late share in the window up to the last landing that was over before `at`."""
    before = landings.filter(pl.col(of) == row[of], pl.col("arrived_at") < row["at"])
    last = before["arrived_at"].max()
    if last is None or last < row["at"] - RATE_LIFETIME:
        return None
    return before.filter(pl.col("arrived_at") > last - timedelta(hours=hours))["late"].mean()


def test_delay_rates_equal_a_search_through_what_had_landed_before(march, landings):
    sample = march.sample(150, seed=3).to_dicts()
    compared = 0
    for row in sample:
        for of in ("carrier", "origin", "dest"):
            for hours in RATE_WINDOWS_H:
                expected = rate_by_search(landings, of, row, hours)
                found = row[f"{of}_late_{hours}h"]
                assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))
                compared += expected is not None
    assert compared > 1200


def test_weather_is_the_last_observation_before_the_prediction(march):
    weather = feed.year()["weather"]
    for row in march.sample(80, seed=4).to_dicts():
        seen = weather.filter(
            pl.col("origin") == row["origin"],
            pl.col("observed_at") < row["at"],
            pl.col("observed_at") >= row["at"] - timedelta(hours=6),
        )
        newest = seen.sort("observed_at").tail(1).to_dicts()
        expected = newest[0] if newest else dict.fromkeys(weather.columns)
        assert {n: row[n] for n in ("temp_f", "wind_mph", "pressure_mb")} == {
            n: expected[n] for n in ("temp_f", "wind_mph", "pressure_mb")
        }


def test_load_counts_the_departures_scheduled_for_the_hour(march):
    flights = feed.year()["flights"]
    for row in march.sample(50, seed=5).to_dicts():
        hour = row["at"].replace(minute=0)
        same = flights.filter(
            pl.col("origin") == row["origin"],
            pl.col("scheduled_departure").is_between(hour, hour + timedelta(minutes=59)),
        )
        assert row["departures_this_hour"] == same.height


def test_another_future_changes_no_feature_of_the_past(frames, march):
    later = pl.col("known_at") >= NOW
    other = {
        **frames,
        "arrivals": frames["arrivals"].with_columns(
            pl.when(later).then(999.0 - pl.col("arr_delay_min")).otherwise("arr_delay_min")
            .alias("arr_delay_min")
        ),
        "weather": frames["weather"].with_columns(
            pl.when(pl.col("observed_at") >= NOW).then(-20.0).otherwise("temp_f").alias("temp_f")
        ),
    }  # fmt: skip
    changed = feature_frame(pipeline, other, start=START, end=END).collect()
    upto = pl.col("at") <= NOW
    assert march.filter(upto).height > 5000
    by = ["at", "flight_id"]
    assert_frame_equal(changed.filter(upto).sort(by), march.filter(upto).sort(by))
    after = pl.col("at") > NOW + timedelta(days=1)
    assert not changed.filter(after).sort(by).equals(march.filter(after).sort(by))


def test_a_future_that_never_happened_changes_no_feature_of_the_past(frames, march):
    cut = {
        **frames,
        "arrivals": frames["arrivals"].filter(pl.col("known_at") < NOW),
        "weather": frames["weather"].filter(pl.col("observed_at") < NOW),
    }
    by = ["at", "flight_id"]
    known = feature_frame(pipeline, cut, start=START, end=NOW).collect().sort(by)
    assert_frame_equal(known, march.filter(pl.col("at") < NOW).sort(by))
