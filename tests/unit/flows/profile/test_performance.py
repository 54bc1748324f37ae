"""Measured, estimated and compared performance agree with their definitions."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from flows.errors import EmptyWindow
from flows.profile import performance as p
from flows.profile.cbpe import CalibrationMap, expected_log_loss, expected_roc_auc

START = date(2013, 4, 1)


def world(days=30, rows=200, *, staleness=0.0, seed=0, labels_until=None):
    """Rows whose true rate the challenger knows; the champion's logit is off by `staleness`."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    logit = rng.normal(-1, 1, days * rows)
    truth = 1 / (1 + np.exp(-logit))
    return pl.DataFrame(
        {
            "day": pl.Series([START + timedelta(days=int(k)) for k in day]),
            "score": 1 / (1 + np.exp(-(logit + staleness))),
            "challenger_score": truth,
            "label": (rng.uniform(size=truth.size) < truth).astype(int),
        }
    ).with_columns(
        label=pl.when(pl.lit(day) < (days if labels_until is None else labels_until)).then("label")
    )


def test_a_window_agrees_with_scikit_learn_also_where_scores_tie():
    rows = world().with_columns(pl.col("score").round(2))
    y, score = rows["label"].to_numpy(), rows["score"].to_numpy()
    measured = p.performance(rows)
    assert measured.rows == rows.height
    assert measured.log_loss == pytest.approx(metrics.log_loss(y, np.clip(score, 1e-7, 1 - 1e-7)))
    assert measured.brier == pytest.approx(metrics.brier_score_loss(y, score))
    assert measured.roc_auc == pytest.approx(metrics.roc_auc_score(y, score))


def test_each_day_is_measured_as_if_it_stood_alone():
    rows = world(days=4, rows=60)
    daily = p.daily_performance(rows.sample(fraction=1, shuffle=True, seed=1))
    assert list(daily) == [START + timedelta(days=k) for k in range(4)]
    for day, measured in daily.items():
        alone = p.performance(rows.filter(pl.col("day") == day))
        assert measured.roc_auc == pytest.approx(alone.roc_auc)
        assert measured.calibration_error == pytest.approx(alone.calibration_error)
        assert measured.log_loss == pytest.approx(alone.log_loss)


def test_the_calibration_error_is_the_weighted_gap_of_ten_bins():
    rows = pl.DataFrame(
        {"day": [START] * 4, "score": [0.05, 0.05, 0.95, 1.0], "label": [0, 1, 1, 1]}
    )
    # Bin 0 of two rows: rate .5 against .05; bin 9 of two rows: rate 1 against .975.
    assert p.performance(rows).calibration_error == pytest.approx((0.45 + 0.025) / 2)


def test_a_day_of_one_class_has_no_area_under_the_curve():
    rows = pl.DataFrame({"day": [START] * 2, "score": [0.1, 0.2], "label": [0, 0]})
    assert p.performance(rows).roc_auc is None


def test_rows_without_labels_do_not_count_and_none_is_an_empty_window():
    rows = world(days=6, labels_until=4)
    assert p.performance(rows).rows == 4 * 200
    with pytest.raises(EmptyWindow):
        p.performance(world(days=2, labels_until=0))


def test_a_certain_score_that_is_wrong_costs_a_finite_loss():
    rows = pl.DataFrame({"day": [START] * 2, "score": [0.0, 1.0], "label": [1, 0]})
    assert p.performance(rows).log_loss == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_the_expected_area_is_the_expected_concordance_of_pairs():
    rates = np.array([0.1, 0.4, 0.4, 0.9])
    wins = sum(
        a * (1 - b) * (1.0 if a > b else 0.5 if a == b else 0.0) for a in rates for b in rates
    )
    assert expected_roc_auc(rates) == pytest.approx(wins / (rates.sum() * (1 - rates).sum()))


def test_cbpe_foresees_the_performance_of_calibrated_scores():
    rows = world(days=40, rows=500, seed=4)
    rates, measured = rows["score"].to_numpy(), p.performance(rows)
    assert expected_log_loss(rates) == pytest.approx(measured.log_loss, abs=0.01)
    assert expected_roc_auc(rates) == pytest.approx(measured.roc_auc, abs=0.01)


def test_the_calibration_map_undoes_a_distorted_score():
    rows = world(days=60, rows=500, staleness=1.0, seed=5)
    fitted = CalibrationMap.fit(rows["score"].to_numpy(), rows["label"].to_numpy())
    fresh = world(days=20, rows=500, staleness=1.0, seed=6)
    estimate = p.estimated_performance(fresh, fitted)
    truth = metrics.log_loss(fresh["label"].to_numpy(), fresh["challenger_score"].to_numpy())
    assert estimate.log_loss == pytest.approx(truth, abs=0.012)
    assert abs(estimate.log_loss - p.performance(fresh).log_loss) > 0.04


def test_a_stale_champion_loses_to_the_challenger_on_the_same_rows():
    test = p.challenger_advantage(world(days=28, staleness=0.6))
    rows = world(days=28, staleness=0.6)
    y = rows["label"].to_numpy()
    exact = metrics.log_loss(y, rows["score"]) - metrics.log_loss(y, rows["challenger_score"])
    assert test.estimate == pytest.approx(exact)
    assert test.t > 5


def test_a_champion_as_good_as_its_challenger_has_no_excess():
    assert p.challenger_advantage(world(staleness=0.0)).t == 0.0


def test_a_harder_season_looks_like_degradation_but_not_to_a_challenger():
    holdout = [d.log_loss for d in p.daily_performance(world(seed=1)).values()]
    # Scores nearer a half: the same model in a less predictable season.
    hard = world(seed=2).with_columns(
        score=0.35 + 0.1 * pl.col("score"), challenger_score=0.35 + 0.1 * pl.col("score")
    )
    assert p.degradation(hard, holdout).t > 5
    assert p.challenger_advantage(hard).t == 0.0


def test_bias_is_positive_where_risk_is_underestimated():
    assert p.calibration_bias(world(staleness=-0.5)).t > 5
    assert p.calibration_bias(world(staleness=0.5)).t < -5


def test_the_reliability_table_counts_every_labelled_row_once():
    table = p.reliability(world())
    assert table["rows"].sum() == 30 * 200
    assert (table["mean_score"].diff().drop_nulls() > 0).all()


def test_calibration_error_is_zero_for_honest_odds_and_the_shift_for_shifted_ones():
    rng = np.random.default_rng(1)
    odds = rng.uniform(0.1, 0.7, 200_000)
    label = (rng.random(odds.size) < odds).astype(float)
    assert p.equal_mass_calibration_error(label, odds) < 0.005
    assert p.equal_mass_calibration_error(label, odds + 0.2) == pytest.approx(0.2, abs=0.005)


def test_scores_that_are_alike_hide_from_equal_widths_what_equal_masses_show():
    scores = np.repeat([0.11, 0.19], 500)
    label = np.tile(np.repeat([1, 0], [75, 425]), 2)
    rows = pl.DataFrame({"day": START, "score": scores, "label": label})
    assert p.performance(rows).calibration_error == pytest.approx(0.0)
    shuffled = np.random.default_rng(0).permutation(500)
    label = np.concatenate([label[:500][shuffled], label[500:][shuffled]]).astype(float)
    assert p.equal_mass_calibration_error(label, scores) > 0.03
