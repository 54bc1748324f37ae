"""Gathering: one window's sketches and scored rows become evidence that decides as it should."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flows.errors import EmptyWindow, Misconfigured
from flows.monitor.decide import decide
from flows.monitor.evidence import (
    JudgedWindow,
    MonitorEvidence,
    ReleaseWindow,
    ServedWindow,
    forecast_excess,
    gather,
)
from flows.monitor.rules import MonitorRules
from flows.profile.profile import Holdout, Profile, sketch_days
from flows.profile.record import decode, encode

START = date(2013, 1, 1)


def served(days, *, first=0, concept=0.0, seed=0):
    """The true logit of x moves by `concept`; the champion still believes the old one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=days * 250)
    day = np.repeat(np.arange(first, first + days), 250)
    truth = 1 / (1 + np.exp(1 - x - concept))
    return pl.DataFrame(
        {
            "day": pl.Series([START + timedelta(days=int(k)) for k in day]),
            "x": x,
            "score": 1 / (1 + np.exp(1 - x)),
            "challenger_score": truth,
            "label": (rng.uniform(size=x.size) < truth).astype(np.int64),
        }
    )


@pytest.fixture(scope="module")
def profile():
    return Profile.of(served(60), day="day", columns=["x"], holdout=Holdout.of(served(20, seed=9)))


def collect(profile, rows, columns=("day", "score", "challenger_score", "label")):
    start, end = datetime(2013, 3, 2, tzinfo=UTC), datetime(2013, 3, 30, tzinfo=UTC)
    days = sketch_days(rows, profile.grid, day="day")
    window = ReleaseWindow("flights", "flights/1", start, end)
    return gather(ServedWindow(window, days, rows.select(columns)), profile, MonitorRules())


def test_a_world_that_stands_still_is_left_alone(profile):
    for seed in range(3):
        decision = decide(collect(profile, served(28, first=60, seed=seed)), MonitorRules())
        assert decision.action == "none"


def test_concept_drift_is_seen_by_the_challenger_and_by_measured_loss(profile):
    rows = served(28, first=60, concept=1.0, seed=1)
    challenged = decide(collect(profile, rows), MonitorRules())
    alone = decide(collect(profile, rows, ("day", "score", "label")), MonitorRules())
    assert (challenged.action, challenged.reason) == ("retrain", "challenger-advantage")
    assert (alone.action, alone.level) == ("retrain", 2)


def test_before_labels_cbpe_is_blind_to_concept_drift_and_says_so(profile):
    rows = served(28, first=60, concept=1.0, seed=1).with_columns(label=pl.lit(None, pl.Int64))
    evidence = collect(profile, rows)
    decision = decide(evidence, MonitorRules())
    assert (evidence.measured, evidence.advantage) == (None, None)
    assert evidence.estimated is not None
    assert decision.action == "none"
    assert "concept drift" in decision.notes[0]


def test_before_labels_a_moved_feature_alarms(profile):
    rows = served(28, first=60, seed=1).with_columns(
        pl.col("x") + 1.5, label=pl.lit(None, pl.Int64)
    )
    decision = decide(collect(profile, rows), MonitorRules())
    assert (decision.action, decision.reason, decision.level) == ("retrain", "drift", 3)


def test_evidence_has_one_digest_whatever_the_order_of_rows(profile):
    rows = served(28, first=60, concept=0.5)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=3)
    evidence = collect(profile, rows)
    assert collect(profile, shuffled).digest == evidence.digest
    assert decode(MonitorEvidence, encode(evidence)) == evidence


def test_a_window_without_rows_is_insufficient(profile):
    evidence = collect(profile, served(28).clear())
    assert decide(evidence, MonitorRules()).reason == "empty-window"


def test_a_window_without_a_time_zone_is_refused():
    with pytest.raises(Misconfigured):
        JudgedWindow(datetime(2013, 5, 1), datetime(2013, 6, 1, tzinfo=UTC), 0, 0)


def test_a_line_is_found_exactly_and_names_the_day_of_the_margin():
    day = np.arange(735_000.0, 735_010.0)
    found = forecast_excess(day, 0.002 * (day - day[0]), margin=0.03)
    assert found.slope == pytest.approx(0.002, rel=1e-9)
    assert found.excess_now == pytest.approx(0.018, rel=1e-6)
    assert found.days_to_margin == pytest.approx(6.0, rel=1e-6)


def test_one_wild_day_does_not_move_the_trend():
    rng = np.random.default_rng(0)
    day, noise = np.arange(30.0), rng.normal(0, 0.001, 30)
    calm = forecast_excess(day, 0.0004 * day + noise, margin=0.02)
    wild = forecast_excess(day, 0.0004 * day + noise + 0.5 * (day == 20), margin=0.02)
    assert calm.slope_low < 0.0004 < calm.slope_high
    assert wild.slope == pytest.approx(calm.slope, rel=0.1)
    assert 15 < calm.days_to_margin < 30
    assert calm.days_to_margin == pytest.approx((0.02 - calm.excess_now) / calm.slope)


def test_noise_is_called_a_rise_no_more_often_than_its_interval_says():
    """Half of what a 90% interval leaves out: a one-sided test at one in twenty."""
    rng = np.random.default_rng(1)
    weeks = [forecast_excess(np.arange(7), rng.normal(size=7), margin=100.0) for _ in range(1000)]
    assert sum(week.slope_low > 0 for week in weeks) <= 50
    assert sum(week.slope_high < 0 for week in weeks) <= 50


def test_noise_has_no_day_of_the_margin_and_a_passed_margin_is_now():
    flat = forecast_excess(np.arange(20), np.tile([0.001, -0.001], 10), margin=0.02)
    assert flat.days_to_margin is None
    assert forecast_excess(np.arange(20), np.full(20, 0.05), margin=0.02).days_to_margin == 0.0
    with pytest.raises(EmptyWindow):
        forecast_excess(np.arange(6), np.zeros(6), margin=0.02)
