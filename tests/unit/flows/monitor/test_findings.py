"""What the evidence alone says: three levels in order, each with a sentence that has numbers."""

from datetime import date

import polars as pl
import pytest

from flows.monitor.findings import find_blocking_breaches, find_reason
from flows.profile.day_means import alarm_above
from tests.unit.flows.monitor.worlds import (
    RULES,
    even_challenger,
    evidence,
    profile,
    world,
)


def find(rows, reference=None, **options):
    return find_reason(evidence(rows, reference, **options), RULES)


def test_a_stale_champion_is_retrained_and_the_reason_is_a_sentence_with_numbers():
    stale = evidence(world(bias=0.1, challenger=even_challenger))
    finding = find_reason(stale, RULES)
    assert (finding.action, finding.reason, finding.level) == (
        "retrain",
        "challenger-advantage",
        2,
    )
    assert finding.alarms
    assert finding.explanation == (
        "Champion flights/1 loses 0.032 nats a prediction to a fresh challenger, on the mean of "
        "28 days (t = 19.5, alarm above 3.7: about one false alarm in 200 checks)."
    )
    assert finding.statistic == stale.advantage.t
    assert finding.threshold == pytest.approx(
        alarm_above(stale.advantage.dof, checks_per_false_alarm=200)
    )


def test_an_even_challenger_changes_nothing():
    finding = find(world(challenger=even_challenger))
    assert (finding.action, finding.reason, finding.alarms) == ("none", "no-alarm", False)


def test_a_sure_but_trifling_advantage_is_not_worth_a_release():
    finding = find(world(bias=0.02, challenger=even_challenger))
    assert finding.statistic > finding.threshold
    assert (finding.action, finding.alarms) == ("none", False)
    assert "not worth a release" in finding.explanation


def test_a_losing_challenger_never_alarms_however_sure():
    finding = find(world(challenger=lambda rate, day: rate + 0.3))
    assert finding.statistic < -10
    assert finding.action == "none"
    assert "gains 0.225 nats a prediction on a fresh challenger" in finding.explanation


def break_feed(rows, day, *columns):
    """Two rows in five lose the columns' values on one day."""
    lost = (pl.col("day") == day) & (pl.int_range(pl.len()) % 5 < 2)
    return rows.with_columns(pl.when(~lost).then(pl.col(name)).alias(name) for name in columns)


def test_a_broken_feed_is_mended_not_trained_on():
    stale = world(bias=0.1, challenger=even_challenger)
    finding = find(break_feed(stale, date(2013, 5, 30), "wind"))
    assert (finding.action, finding.reason, finding.level) == ("fix-feed", "missing-jump", 1)
    assert "Feature wind broke its missing-jump contract on 2013-05-30" in finding.explanation
    assert "40.0% of rows, at most 10.0% allowed" in finding.explanation


def test_a_breach_blocks_for_a_week_of_event_time():
    rows = world(challenger=even_challenger)
    for day, blocks in ((date(2013, 5, 24), False), (date(2013, 5, 25), True)):
        broken = evidence(break_feed(rows, day, "wind"))
        assert [breach.day for breach in broken.breaches] == [day.isoformat()]
        assert bool(find_blocking_breaches(broken, RULES)) is blocks


def test_an_empty_window_and_one_without_tests_are_insufficient():
    assert find(world(0)).reason == "empty-window"
    mute = find(world(2, challenger=even_challenger), days=2)
    assert (mute.action, mute.reason) == ("insufficient", "too-few-days")


def test_a_challenger_outweighs_a_harder_season_and_moved_features():
    season = evidence(world(busy=0.9, shift=1.0, challenger=even_challenger), profile(busy=0.1))
    assert season.loss_rise.t > 12
    assert season.drift[0].test.t > 15
    assert find_reason(season, RULES).action == "none"


@pytest.mark.parametrize(
    ("rows", "busy", "reason"),
    [
        ({"busy": 0.9}, 0.1, "degradation"),
        ({"bias": -0.06}, 0.9, "calibration"),
    ],
)
def test_without_a_challenger_measured_loss_and_calibration_decide(rows, busy, reason):
    finding = find(world(**rows), profile(busy=busy))
    assert (finding.action, finding.reason, finding.level) == ("retrain", reason, 2)


def test_measured_performance_that_holds_silences_drift():
    held = evidence(world(shift=1.0))
    assert held.drift[0].test.t > 15
    assert find_reason(held, RULES).action == "none"


def test_before_labels_estimates_and_drift_decide_with_a_caution():
    harder = find(world(busy=0.7, labels=0.1), profile(leave_out=("load",)))
    drifting = find(world(shift=-0.3, labels=0.1))
    assert (harder.reason, harder.level) == ("estimated-degradation", 2)
    assert (drifting.reason, drifting.level) == ("drift", 3)
    for finding in (harder, drifting):
        assert finding.action == "retrain"
        assert "concept drift" in finding.caution


def test_many_features_share_one_false_alarm_rate():
    alone = find(world(shift=0.1, labels=0.0))
    crowd = find(world(shift=0.1, labels=0.0, quiet_features=40), profile(quiet_features=40))
    assert alone.statistic == pytest.approx(crowd.statistic)
    assert alone.action == "retrain"
    assert crowd.action == "none"
    assert crowd.threshold > alone.threshold
