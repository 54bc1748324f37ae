"""Tests on day means hold their false-alarm rate where tests on rows cannot."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flows.errors import EmptyWindow
from flows.profile.day_means import alarm_above, mean_test, shift_test


@pytest.mark.parametrize(
    ("dof", "one_in", "t"), [(1, 20, 6.314), (5, 40, 2.571), (10, 100, 2.764), (30, 200, 2.750)]
)
def test_the_bar_is_that_of_printed_tables(dof, one_in, t):
    assert alarm_above(dof, checks_per_false_alarm=one_in) == pytest.approx(t, abs=5e-4)


@given(st.integers(2, 10_000), st.floats(1, 9000), st.integers(1, 60), st.sampled_from([1, 2]))
def test_independent_tests_together_alarm_once_in_so_many_checks(one_in, dof, tests, sides):
    bar = alarm_above(dof, checks_per_false_alarm=one_in, tests=tests, sides=sides)
    quiet = (1 - sides * stats.t.sf(bar, dof)) ** tests
    assert 1 - quiet == pytest.approx(1 / one_in, rel=1e-6)


def test_the_shift_is_the_difference_of_means_and_keeps_its_sign():
    rng = np.random.default_rng(0)
    reference, window = rng.normal(0, 1, 90), rng.normal(3, 1, 14)
    up = shift_test(window, reference, unit="sd")
    down = shift_test(-window, -reference, unit="sd")
    assert up.estimate == pytest.approx(window.mean() - reference.mean())
    assert down.t == pytest.approx(-up.t)
    assert up.t > alarm_above(up.dof, checks_per_false_alarm=1000)
    assert (up.days, up.reference_days) == (14, 90)


def test_the_test_does_not_depend_on_unit_or_origin():
    rng = np.random.default_rng(1)
    reference, window = rng.normal(size=60), rng.normal(0.5, size=20)
    plain = shift_test(window, reference, unit="m")
    scaled = shift_test(1000 * window + 7, 1000 * reference + 7, unit="mm")
    assert scaled.t == pytest.approx(plain.t)


def test_correlated_days_widen_the_standard_error():
    days = np.repeat(np.random.default_rng(2).normal(size=15), 6)
    independent = days.std(ddof=1) / math.sqrt(days.size)
    assert mean_test(days, unit="x").standard_error > 1.5 * independent


def test_alternating_days_are_never_surer_than_independent_ones():
    days = np.tile([1.0, -1.0], 20)
    independent = days.std(ddof=1) / math.sqrt(days.size)
    assert mean_test(days, unit="x").standard_error == pytest.approx(independent)


@pytest.mark.parametrize(("phi", "at_most"), [(0.0, 1.0), (0.3, 1.5), (0.6, 3.0)])
def test_false_alarms_stay_near_the_rate_promised_for_dependent_days(phi, at_most):
    checks, rate = 4000, 52
    alarms = 0
    for days in _autoregressive(checks, 97, phi):
        test = shift_test(days[90:], days[:90], unit="x")
        alarms += abs(test.t) > alarm_above(test.dof, checks_per_false_alarm=rate, sides=2)
    promised = checks / rate
    assert alarms <= at_most * promised + 3 * math.sqrt(promised)


def test_more_tests_in_a_check_raise_the_bar():
    one, twenty = (alarm_above(30, checks_per_false_alarm=200, tests=k) for k in (1, 20))
    assert twenty > one
    alone = stats.t.sf(twenty, 30)
    assert 1 - (1 - alone) ** 20 == pytest.approx(1 / 200, rel=1e-6)


def test_days_that_never_vary_alarm_only_if_they_differ():
    same = shift_test([0.1] * 7, [0.1] * 30, unit="x")
    moved = shift_test([0.2] * 7, [0.1] * 30, unit="x")
    assert abs(same.t) < 0.01
    assert moved.t > 1e9


def test_days_without_a_value_are_left_out_and_too_few_are_refused():
    assert mean_test([1.0, math.nan, 2.0, 3.0], unit="x").days == 3
    with pytest.raises(EmptyWindow, match="not 2"):
        mean_test([1.0, math.nan, 2.0], unit="x")


def _autoregressive(series: int, days: int, phi: float) -> np.ndarray:
    noise = np.random.default_rng(3).normal(size=(series, days + 50))
    values = np.zeros_like(noise)
    for t in range(1, days + 50):
        values[:, t] = phi * values[:, t - 1] + noise[:, t]
    return values[:, 50:]
