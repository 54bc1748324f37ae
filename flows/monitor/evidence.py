"""Everything a decision may look at, gathered from one window's sketches and scored rows."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from flows.errors import EmptyWindow, Misconfigured
from flows.monitor.feature_checks import Breach, ColumnDrift, find_breaches, measure_drift
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import DayTest
from flows.profile.performance import (
    EstimatedPerformance,
    Performance,
    calibration_bias,
    challenger_advantage,
    daily_excess,
    degradation,
    estimated_degradation,
    estimated_performance,
    keep_labelled,
    performance,
)
from flows.profile.profile import Days, Holdout, Profile
from flows.profile.record import encode

T = TypeVar("T")

# Fewer show no trend.
TREND_DAYS = 7


@dataclass(frozen=True)
class ReleaseWindow:
    """One release, and the days [start, end), in UTC, on which it is judged."""

    pipeline: str
    release: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class ServedWindow:
    """What a release answered in a window.

    `days`: its sketches by day, on the grid of the release's profile; `scored`: its predictions,
    as flows/profile/performance.py describes them.
    """

    of: ReleaseWindow
    days: Days
    scored: pl.DataFrame


@dataclass(frozen=True)
class JudgedWindow:
    """The days judged, [start, end) in UTC, with the predictions served in them."""

    start: datetime
    end: datetime
    rows: int
    labelled_rows: int

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise Misconfigured("a window needs time zones", remedy="use UTC datetimes")


@dataclass(frozen=True)
class Forecast:
    """A trend of excess loss: informs, never alarms.

    Units: excess in nats a prediction, slopes in nats a prediction and day, low to high the
    90% interval. `days_to_margin` is None unless the trend rises beyond doubt; 0 when the
    margin is passed already.
    """

    excess_now: float
    slope: float
    slope_low: float
    slope_high: float
    margin: float
    days_to_margin: float | None


@dataclass(frozen=True)
class MonitorEvidence:
    """What is known about one release in one window; a missing witness is None.

    `advantage`: the challenger's over the champion; `loss_rise`: measured log loss over the
    holdout's; `bias`: label minus score; `estimated_rise`: as `loss_rise`, by CBPE.
    """

    pipeline: str
    release: str
    window: JudgedWindow
    breaches: tuple[Breach, ...]
    drift: tuple[ColumnDrift, ...]
    measured: Performance | None
    challenger: Performance | None
    estimated: EstimatedPerformance | None
    advantage: DayTest | None
    loss_rise: DayTest | None
    bias: DayTest | None
    estimated_rise: DayTest | None
    forecast: Forecast | None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return hashlib.sha256(encode(self)).hexdigest()


def gather(served: ServedWindow, profile: Profile, rules: MonitorRules) -> MonitorEvidence:
    """Evidence on one window; a witness without enough data is None.

    Numbers are kept to nine digits, so that every machine finds the same digest.
    """
    window, scored = served.of, served.scored
    challenged = "challenger_score" in scored.columns
    rows = scored if challenged else scored.with_columns(challenger_score=pl.lit(None, pl.Float64))
    both = rows.filter(pl.col("challenger_score").is_not_null())
    estimated, loss_rise, estimated_rise = _compare_with_holdout(profile.holdout, scored)
    evidence = MonitorEvidence(
        pipeline=window.pipeline,
        release=window.release,
        window=JudgedWindow(window.start, window.end, scored.height, keep_labelled(scored).height),
        breaches=find_breaches(served.days, profile, rules.feed),
        drift=measure_drift(served.days, profile),
        measured=_measure_if_any(lambda: performance(scored)),
        challenger=_measure_if_any(lambda: performance(both, score="challenger_score")),
        estimated=estimated,
        advantage=_measure_if_any(lambda: challenger_advantage(rows)),
        loss_rise=loss_rise,
        bias=_measure_if_any(lambda: calibration_bias(scored)),
        estimated_rise=estimated_rise,
        forecast=_measure_if_any(lambda: _forecast(rows, rules.failure_nats)),
    )
    kept: MonitorEvidence = _round_numbers(evidence)
    return kept


def forecast_excess(day: ArrayLike, excess: ArrayLike, *, margin: float) -> Forecast:
    """Theil-Sen line through the day means of the excess loss.

    Shapes: day (n,) day numbers, excess (n,), n >= 7. Raises: EmptyWindow with fewer.
    Source: P. K. Sen, J. Amer. Statist. Assoc. 63 (1968), 1379-1389.
    """
    x, y = np.asarray(day, dtype=np.float64), np.asarray(excess, dtype=np.float64)
    if x.size < TREND_DAYS:
        raise EmptyWindow(f"a trend needs {TREND_DAYS} days, not {x.size}")
    # Late, as it takes a second; whoever fitted a challenger has it loaded.
    from scipy.stats import theilslopes

    line = theilslopes(y, x, alpha=0.9, method="joint")
    slope, low, high = (float(z) for z in (line.slope, line.low_slope, line.high_slope))
    now = float(line.intercept) + slope * float(x.max())
    return Forecast(now, slope, low, high, margin, _count_days_to(margin, now, slope, low))


def _compare_with_holdout(
    holdout: Holdout | None, scored: pl.DataFrame
) -> tuple[EstimatedPerformance | None, DayTest | None, DayTest | None]:
    """CBPE, and the rises of measured and of estimated loss; all None without a holdout."""
    if holdout is None:
        return None, None, None
    scale = holdout.calibration
    return (
        _measure_if_any(lambda: estimated_performance(scored, scale)),
        _measure_if_any(lambda: degradation(scored, holdout.log_loss)),
        _measure_if_any(lambda: estimated_degradation(scored, scale, holdout.expected_log_loss)),
    )


def _measure_if_any(witness: Callable[[], T]) -> T | None:
    """A witness with too little data is absent, not wrong."""
    try:
        return witness()
    except EmptyWindow:
        return None


def _forecast(rows: pl.DataFrame, margin: float) -> Forecast:
    excess = daily_excess(rows)
    return forecast_excess(
        [day.toordinal() for day in excess], list(excess.values()), margin=margin
    )


def _round_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else value
    if isinstance(value, tuple):
        return tuple(_round_numbers(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: _round_numbers(getattr(value, f.name)) for f in fields(value)}
        )
    return value


def _count_days_to(margin: float, now: float, slope: float, low: float) -> float | None:
    if now >= margin:
        return 0.0
    return (margin - now) / slope if low > 0 else None
