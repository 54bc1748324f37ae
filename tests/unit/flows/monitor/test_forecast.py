"""The trend of the excess loss, and the day on which it would reach the margin."""

import numpy as np
import pytest

from flows.errors import EmptyWindow
from flows.monitor.forecast import forecast


def test_a_line_is_found_exactly_and_names_the_day_of_the_margin():
    day = np.arange(735_000.0, 735_010.0)
    found = forecast(day, 0.002 * (day - day[0]), margin=0.03)
    assert found.slope == pytest.approx(0.002, rel=1e-9)
    assert found.excess_now == pytest.approx(0.018, rel=1e-6)
    assert found.days_to_margin == pytest.approx(6.0, rel=1e-6)


def test_one_wild_day_does_not_move_the_trend():
    rng = np.random.default_rng(0)
    day, noise = np.arange(30.0), rng.normal(0, 0.001, 30)
    calm = forecast(day, 0.0004 * day + noise, margin=0.02)
    wild = forecast(day, 0.0004 * day + noise + 0.5 * (day == 20), margin=0.02)
    assert calm.slope_low < 0.0004 < calm.slope_high
    assert wild.slope == pytest.approx(calm.slope, rel=0.1)
    assert 15 < calm.days_to_margin < 30
    assert calm.days_to_margin == pytest.approx((0.02 - calm.excess_now) / calm.slope)


def test_noise_is_called_a_rise_no_more_often_than_its_interval_says():
    """Half of what a 90% interval leaves out: a one-sided test at one in twenty."""
    rng = np.random.default_rng(1)
    weeks = [forecast(np.arange(7), rng.normal(size=7), margin=100.0) for _ in range(1000)]
    assert sum(week.slope_low > 0 for week in weeks) <= 50
    assert sum(week.slope_high < 0 for week in weeks) <= 50


def test_noise_has_no_day_of_the_margin_and_a_passed_margin_is_now():
    flat = forecast(np.arange(20), np.tile([0.001, -0.001], 10), margin=0.02)
    assert flat.days_to_margin is None
    assert forecast(np.arange(20), np.full(20, 0.05), margin=0.02).days_to_margin == 0.0
    with pytest.raises(EmptyWindow):
        forecast(np.arange(6), np.zeros(6), margin=0.02)
