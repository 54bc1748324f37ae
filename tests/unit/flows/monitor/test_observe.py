"""What was served in a window, with its labels and a challenger that learned before it."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flows.learn.dataset import training_frame
from flows.learn.fit import fit
from flows.monitor.evidence import ReleaseWindow
from flows.monitor.observe import (
    KnownData,
    add_challenger,
    add_labels,
    choose_days,
    measure_advantage,
    observe,
    select_served,
)
from flows.monitor.rules import MonitorRules
from flows.profile.profile import Profile
from flows.tables import predictions_dataset
from tests.unit.flows.learn.tiny_pipeline import DAY, PIPELINE, START, visits

RULES = MonitorRules(challenger_window=timedelta(days=8))
WINDOW = ReleaseWindow("visits", "visits/1", START + 10 * DAY, START + 16 * DAY)


def predict(rows, *, release="visits/1", score=0.5, later=timedelta(0)):
    return rows.select(
        "visit", "at", "pages", "channel",
        request_id=pl.lit(f"r{later.total_seconds():.0f}"),
        predicted_at=pl.col("at") + later,
        release=pl.lit(release),
        score=pl.lit(score),
    )  # fmt: skip


def know(predictions, rows=None):
    rows = visits() if rows is None else rows
    return KnownData(PIPELINE, {"visits": rows.lazy()}, predictions.lazy())


def test_the_last_prediction_of_each_key_by_this_release_in_this_window_counts():
    rows = visits()
    first, second = predict(rows, score=0.2), predict(rows, score=0.8, later=timedelta(minutes=1))
    other = predict(rows, release="visits/2", score=0.9, later=timedelta(hours=1))
    served = select_served(know(pl.concat([other, second, first])), WINDOW)
    inside = rows.filter(pl.col("at").is_between(WINDOW.start, WINDOW.end, closed="left"))
    assert served["visit"].to_list() == inside["visit"].to_list()
    assert set(served["score"]) == {0.8}
    assert served["day"].to_list() == inside["at"].dt.date().to_list()


def test_a_row_without_truth_keeps_its_place_and_has_no_label():
    rows = visits().with_columns(
        bought=pl.when(pl.col("at") < START + 12 * DAY).then(pl.col("bought"))
    )
    known = know(predict(rows), rows)
    served = select_served(known, WINDOW)
    labelled = add_labels(known, served)
    assert_frame_equal(labelled.drop("label"), served)
    late = labelled.filter(pl.col("at") >= START + 12 * DAY)
    assert late["label"].null_count() == late.height > 0
    assert labelled.filter(pl.col("at") < START + 12 * DAY)["label"].null_count() == 0


def test_the_challenger_learned_from_what_was_known_before_the_window():
    rows = visits()
    known = know(predict(rows))
    scored = add_challenger(known, add_labels(known, select_served(known, WINDOW)), WINDOW, RULES)
    before = training_frame(
        PIPELINE, known.frames, cutoff=WINDOW.start, start=WINDOW.start - 8 * DAY
    )
    assert before["known_at"].max() <= WINDOW.start
    expected = fit(PIPELINE, before).predict(scored)
    assert scored["challenger_score"].to_list() == expected.tolist()


def test_without_rows_to_learn_from_there_is_no_challenger():
    rows = visits().filter(pl.col("at") >= WINDOW.start)
    known = know(predict(rows), rows)
    served = add_labels(known, select_served(known, WINDOW))
    assert "challenger_score" not in add_challenger(known, served, WINDOW, RULES).columns
    assert measure_advantage(known, WINDOW, RULES) is None


def test_evidence_counts_what_was_served_and_measures_both_models():
    known = know(predict(visits()))
    reference = known.frames["visits"].collect().with_columns(day=pl.col("at").dt.date())
    profile = Profile.of(reference, day="day", columns=PIPELINE.features)
    observed = observe(known, WINDOW, profile, RULES)
    evidence = observed.evidence
    assert evidence.window.rows == evidence.window.labelled_rows == 6 * 40
    assert len(observed.served.days) == 6
    assert evidence.challenger.log_loss < evidence.measured.log_loss
    assert evidence.advantage.estimate > 0.1
    # It comes to the same when labels are looked at once more.
    again = measure_advantage(known, WINDOW, RULES)
    assert again.estimate == pytest.approx(evidence.advantage.estimate, rel=1e-8)


def test_where_nothing_was_predicted_the_window_is_empty():
    nothing = predictions_dataset(PIPELINE).contract.create_empty()
    known = know(nothing)
    reference = visits().with_columns(day=pl.col("at").dt.date())
    profile = Profile.of(reference, day="day", columns=PIPELINE.features)
    evidence = observe(known, WINDOW, profile, RULES).evidence
    assert (evidence.window.rows, evidence.measured, evidence.drift) == (0, None, ())
    assert measure_advantage(known, WINDOW, RULES) is None


def test_the_days_asked_for_are_kept_and_else_the_28_before_the_scheduled_day_are_taken():
    now = datetime(2013, 6, 2, 13, 5, tzinfo=UTC)
    scheduled = datetime(2013, 6, 1, 3, 0, tzinfo=UTC)
    end = datetime(2013, 6, 1, tzinfo=UTC)
    assert choose_days(None, None, scheduled=scheduled, now=now) == (end - 28 * DAY, end)
    assert choose_days(None, None, scheduled=None, now=now) == (end - 27 * DAY, end + DAY)
    assert choose_days(START, None, scheduled=scheduled, now=now) == (START, end)
    assert choose_days(START, WINDOW.end, scheduled=scheduled, now=now) == (START, WINDOW.end)
