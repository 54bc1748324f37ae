"""Contracts see a broken feed; drift ranks features and alarms only through day means."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from flows.monitor.feature_checks import find_breaches, measure_drift
from flows.monitor.rules import FeedRules
from flows.profile.day_means import alarm_above
from flows.profile.profile import Profile, sketch_days

START = date(2013, 1, 1)
COLUMNS = ["delay_rate", "carrier", "quiet"]


def served(days, *, first=0, rows=300, seed=0, day_sd=0.3):
    """Rows whose days share an effect, as flights share a day's weather."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(first, first + days), rows)
    effect = rng.normal(0, day_sd, days)[index - first]
    return pl.DataFrame(
        {
            "day": pl.Series([START + timedelta(days=int(k)) for k in index]),
            "delay_rate": effect + rng.normal(size=index.size),
            "carrier": rng.choice(["AA", "UA", "WN"], size=index.size, p=[0.6, 0.3, 0.1]),
            "quiet": rng.normal(size=index.size),
        }
    )


@pytest.fixture(scope="module")
def profile():
    return Profile.of(served(90), day="day", columns=COLUMNS)


def window(profile, frame):
    return sketch_days(frame, profile.grid, day="day")


def test_a_moved_feature_ranks_first_and_alarms(profile):
    moved = served(14, first=90, seed=1).with_columns(pl.col("quiet") + 0.2)
    ranking = measure_drift(window(profile, moved), profile)
    first = ranking[0]
    assert first.column == "quiet"
    assert first.shift_sd == pytest.approx(0.2, abs=0.05)
    assert first.test.t > alarm_above(
        first.test.dof, checks_per_false_alarm=200, tests=len(COLUMNS), sides=2
    )


def test_days_that_share_an_effect_do_not_alarm_where_rows_would(profile):
    from scipy import stats

    reference = served(90)["delay_rate"].to_numpy()
    naive, ours = 0, 0
    for seed in range(1, 41):
        week = served(7, first=90, seed=seed)
        naive += stats.ks_2samp(week["delay_rate"].to_numpy(), reference).pvalue < 0.005
        test = next(
            d for d in measure_drift(window(profile, week), profile) if d.column == "delay_rate"
        ).test
        ours += abs(test.t) > alarm_above(test.dof, checks_per_false_alarm=200, sides=2)
    assert naive >= 20
    assert ours <= 2


def test_categories_that_go_from_common_to_rare_alarm(profile):
    swapped = served(14, first=90, seed=2).with_columns(
        carrier=pl.when(pl.col("carrier") == "AA").then(pl.lit("WN")).otherwise("carrier")
    )
    ranking = measure_drift(window(profile, swapped), profile)
    assert ranking[0].column == "carrier"
    assert (ranking[0].ks, ranking[0].shift_sd) == (None, None)
    assert ranking[0].test.t > 20


def test_two_days_rank_but_cannot_alarm(profile):
    ranking = measure_drift(window(profile, served(2, first=90)), profile)
    assert len(ranking) == len(COLUMNS)
    assert {move.test for move in ranking} == {None}


def test_a_column_without_values_is_left_to_the_contracts(profile):
    nulls = served(7, first=90).with_columns(quiet=pl.lit(None, pl.Float64))
    days = window(profile, nulls)
    assert "quiet" not in {move.column for move in measure_drift(days, profile)}
    found = find_breaches(days, profile, FeedRules())
    assert {(b.column, b.rule) for b in found} == {("quiet", "missing-jump")}
    assert len(found) == 7


def test_a_jump_on_one_day_of_a_week_is_found_and_dated(profile):
    bad = START + timedelta(days=93)
    frame = served(7, first=90, seed=3).with_columns(
        quiet=pl.when((pl.col("day") != bad) | (pl.int_range(pl.len()) % 5 > 0)).then("quiet")
    )
    (found,) = find_breaches(window(profile, frame), profile, FeedRules())
    assert (found.rule, found.day) == ("missing-jump", bad.isoformat())
    assert found.observed == pytest.approx(0.2, abs=0.01)


def test_nan_counts_as_missing(profile):
    frame = served(3, first=90).with_columns(quiet=pl.lit(float("nan")))
    assert find_breaches(window(profile, frame), profile, FeedRules())[0].rule == "missing-jump"


def test_a_hundredfold_feature_breaks_its_range(profile):
    frame = served(3, first=90).with_columns(pl.col("delay_rate") * 100)
    assert find_breaches(window(profile, frame), profile, FeedRules())[0].rule == "range"


def test_a_renamed_carrier_is_a_new_category_and_is_named(profile):
    frame = served(3, first=90).with_columns(pl.col("carrier").replace("WN", "Southwest"))
    found = find_breaches(window(profile, frame), profile, FeedRules())
    assert {b.rule for b in found} == {"new-category"}
    assert found[0].examples == "Southwest"


def test_a_clean_feed_breaks_nothing_and_a_tiny_day_is_not_judged(profile):
    assert find_breaches(window(profile, served(30, first=90, seed=5)), profile, FeedRules()) == ()
    tiny = served(3, first=90, rows=10).with_columns(quiet=pl.lit(None, pl.Float64))
    assert find_breaches(window(profile, tiny), profile, FeedRules()) == ()
