from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from examples.flights.pipeline import pipeline
from flows.errors import EmptyWindow
from flows.learn.dataset import (
    add_day,
    feature_frame,
    find_latest_label,
    prepare_split,
    round_up_to_second,
    split_by_time,
    training_frame,
)
from tests.unit.flows.learn.tiny_pipeline import DAY, PIPELINE, START, visits

CUTOFF = datetime(2013, 3, 1, tzinfo=UTC)


def test_one_month_built_from_its_reach_equals_the_month_cut_from_the_year(frames):
    start, end = datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 6, 1, tzinfo=UTC)
    month = feature_frame(pipeline, frames, start=start, end=end).collect()
    whole = feature_frame(pipeline, frames, end=end).filter(pl.col("at") >= start).collect()
    by = ["at", "flight_id"]
    assert_frame_equal(month.sort(by), whole.sort(by), check_exact=True)


def test_features_are_numbers_or_text_in_the_declared_order(labelled):
    assert labelled.columns == ["flight_id", "at", *pipeline.features, "label", "known_at"]
    for name in pipeline.features:
        expected = pl.String if name in pipeline.categorical else pl.Float64
        assert labelled[name].dtype == expected


def test_every_scheduled_flight_is_scored_but_only_known_labels_teach(frames, labelled):
    scored = feature_frame(pipeline, frames, end=CUTOFF).collect()
    flights = frames["flights"].filter(pl.col("scheduled_departure") < CUTOFF).collect()
    assert scored.height == flights.height
    assert labelled.height < scored.height
    assert labelled["known_at"].max() <= CUTOFF
    assert labelled["label"].null_count() == 0


def test_a_label_known_after_the_cutoff_does_not_exist_yet(frames):
    early = training_frame(pipeline, frames, cutoff=datetime(2013, 1, 2, tzinfo=UTC))
    in_the_air = feature_frame(pipeline, frames, end=datetime(2013, 1, 2, tzinfo=UTC)).collect()
    missing = in_the_air.join(early, on="flight_id", how="anti")
    truth = missing.join(pipeline.labels(frames).collect(), on="flight_id")
    late = truth.filter(pl.col("label").is_not_null())
    assert late.height > 20
    assert late["known_at"].min() > datetime(2013, 1, 2, tzinfo=UTC)


def test_what_is_learnt_was_known_before_the_first_row_it_is_judged_on(split, labelled):
    assert split.boundary == CUTOFF - pipeline.holdout
    assert split.train["known_at"].max() <= split.boundary <= split.holdout["at"].min()
    in_neither = labelled.height - split.train.height - split.holdout.height
    straddling = labelled.filter(pl.col("at") < split.boundary, pl.col("known_at") > split.boundary)
    assert in_neither == straddling.height > 0


def test_a_training_window_leaves_older_rows_out(frames):
    short = replace(pipeline, training_window=timedelta(days=20))
    rows = training_frame(short, frames, cutoff=CUTOFF)
    assert rows["at"].min() >= CUTOFF - timedelta(days=34)


def test_no_label_in_the_window_is_an_empty_window(frames):
    with pytest.raises(EmptyWindow, match="has a label yet"):
        training_frame(pipeline, frames, cutoff=datetime(2012, 1, 1, tzinfo=UTC))


def test_a_side_with_one_class_is_an_empty_window(labelled):
    punctual = labelled.filter(pl.col("label") == 0)
    with pytest.raises(EmptyWindow, match="both classes"):
        split_by_time(pipeline, punctual, cutoff=CUTOFF)


def test_the_newest_label_dates_the_data_and_without_one_there_is_nothing_to_date():
    rows = visits(3).with_columns(
        bought=pl.when(pl.col("at") < START + 2 * DAY).then(pl.col("bought"))
    )
    last_with_label = rows.filter(pl.col("bought").is_not_null())["at"].max()
    assert find_latest_label(PIPELINE, {"visits": rows.lazy()}) == last_with_label + DAY
    nothing = rows.with_columns(bought=pl.lit(None, pl.Int64))
    with pytest.raises(EmptyWindow, match="no label yet"):
        find_latest_label(PIPELINE, {"visits": nothing.lazy()})


@given(st.datetimes(timezones=st.just(UTC), max_value=datetime(9000, 1, 1)))
def test_a_moment_is_rounded_up_to_what_a_signed_statement_can_hold(moment):
    rounded = round_up_to_second(moment)
    assert rounded.microsecond == 0
    assert timedelta(0) <= rounded - moment < timedelta(seconds=1)


def test_a_split_can_be_built_again_from_the_same_data_and_cutoff():
    frames = {"visits": visits().lazy()}
    cutoff = START + 20 * DAY
    split = prepare_split(PIPELINE, frames, cutoff=cutoff)
    again = prepare_split(PIPELINE, frames, cutoff=cutoff)
    assert_frame_equal(split.train, again.train)
    assert_frame_equal(split.holdout, again.holdout)
    assert split.boundary == cutoff - PIPELINE.holdout
    assert split.train.columns == ["visit", "at", "pages", "channel", "label", "known_at"]


def test_a_row_belongs_to_the_utc_day_of_its_event():
    late = datetime(2020, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert add_day(pl.DataFrame({"at": [late]}))["day"].item() == late.date()
