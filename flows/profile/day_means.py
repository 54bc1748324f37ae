"""Tests on day means: rows of a day depend on each other, so a day counts once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flows.arrays import Floats
from flows.errors import EmptyWindow

MIN_DAYS = 3
# Relative: what summation alone leaves between days that are equal.
_SUMMATION_NOISE = 1e-12


@dataclass(frozen=True)
class DayTest:
    """A difference of day means, with a standard error that survives dependent days.

    `estimate` and `standard_error` are in `unit`; `dof` are the effective degrees of
    freedom of the standard error; `reference_days` is 0 when the reference is zero itself.
    """

    estimate: float
    standard_error: float
    dof: float
    days: int
    reference_days: int
    unit: str

    @property
    def t(self) -> float:
        """The estimate in standard errors; 0 where every day is 0."""
        return self.estimate / self.standard_error if self.standard_error else 0.0


def mean_test(days: ArrayLike, *, unit: str) -> DayTest:
    """Is the mean of consecutive day means zero?

    Raises: EmptyWindow with fewer than `MIN_DAYS` finite days.
    Source: Newey and West, Econometrica 55 (1987), 703-708; see `_long_run_variance`.
    """
    window = _finite(days)
    variance, dof = _long_run_variance([window])
    error = _standard_error(variance / window.size, window)
    return DayTest(float(window.mean()), error, dof, window.size, 0, unit)


def shift_test(days: ArrayLike, reference: ArrayLike, *, unit: str) -> DayTest:
    """Did the mean of day means shift away from the reference days?

    Shapes: days (n,), reference (m,), each in time order, n and m >= `MIN_DAYS`; days without
    a value are NaN and left out. The two runs of days may lie any time apart.
    Raises: EmptyWindow with fewer finite days on either side.
    Source: Newey and West, Econometrica 55 (1987), 703-708; see `_long_run_variance`.
    """
    window, base = _finite(days), _finite(reference)
    variance, dof = _long_run_variance([window, base])
    error = _standard_error(variance * (1 / window.size + 1 / base.size), window, base)
    shift = float(window.mean() - base.mean())
    return DayTest(shift, error, dof, window.size, base.size, unit)


def alarm_above(
    dof: float, *, checks_per_false_alarm: int, tests: int = 1, sides: int = 1
) -> float:
    """The t above which about one check in `checks_per_false_alarm` alarms without cause.

    `tests` share that rate (Šidák, so tests that move together make it rarer);
    `sides` is 2 where a fall alarms as a rise does.
    Source: Šidák, J. Amer. Statist. Assoc. 62 (1967), 626-633.
    """
    rate = -math.expm1(math.log1p(-1 / checks_per_false_alarm) / tests)
    # Late: importing it costs more than all that a process without a check needs.
    from scipy.special import stdtrit

    return -float(stdtrit(dof, rate / sides))


def _finite(days: ArrayLike) -> Floats:
    values = np.asarray(days, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if finite.size < MIN_DAYS:
        raise EmptyWindow(
            f"a test on day means needs {MIN_DAYS} days with values, not {finite.size}",
            remedy="widen the window, or wait for more days",
        )
    return finite


def _long_run_variance(runs: Sequence[Floats]) -> tuple[float, float]:
    """Variance of a day mean times days, and the degrees of freedom it is known with.

    Bartlett weights over 1.3 sqrt(days) lags; never below the variance that independent days
    would have, because short runs underestimate correlation; the runs share one variance,
    and no pair of days spans two runs.
    Source: Lazarus, Lewis, Stock and Watson, J. Bus. Econ. Stat. 36 (2018), 541-559.
    """
    residuals = [run - run.mean() for run in runs]
    days = sum(run.size for run in runs)
    span = math.ceil(1.3 * math.sqrt(days))
    lags = [
        (1 - lag / span) * sum(float(r[lag:] @ r[:-lag]) for r in residuals if r.size > lag)
        for lag in range(1, span)
    ]
    spread = sum(float(r @ r) for r in residuals)
    total = max(spread, spread + 2 * sum(lags))
    return total / (days - len(runs)), 1.5 * days / span


def _standard_error(variance: float, *runs: Floats) -> float:
    """Root of `variance`, but never below what float sums of such values can tell apart."""
    largest = max(float(np.abs(run).max()) for run in runs)
    return max(math.sqrt(variance), _SUMMATION_NOISE * largest)
