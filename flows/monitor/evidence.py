"""Everything a decision may look at, gathered from one window's sketches and scored rows."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import polars as pl

from flows.errors import EmptyWindow, Misconfigured
from flows.monitor.contracts import Breach, FeedRules, breaches
from flows.monitor.drift import ColumnDrift, drift
from flows.monitor.forecast import Forecast, forecast
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
    labelled,
    performance,
)
from flows.profile.profile import Days, Holdout, Profile
from flows.profile.record import encode

T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """The days judged, [start, end) in UTC, with the predictions served in them."""

    start: datetime
    end: datetime
    rows: int
    labelled_rows: int

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise Misconfigured("a window needs time zones", remedy="use UTC datetimes")


@dataclass(frozen=True)
class MonitorEvidence:
    """What is known about one release in one window; a missing witness is None.

    `advantage`: the challenger's over the champion; `loss_rise`: measured log loss over the
    holdout's; `bias`: label minus score; `estimated_rise`: as `loss_rise`, by CBPE.
    """

    pipeline: str
    release: str
    window: Window
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


def gather(
    *,
    pipeline: str,
    release: str,
    start: datetime,
    end: datetime,
    profile: Profile,
    days: Days,
    scored: pl.DataFrame,
    feed_rules: FeedRules,
    failure_margin: float,
) -> MonitorEvidence:
    """Evidence on one window.

    `days`: its day sketches on the profile's grid; `scored`: its predictions, see
    `performance`; `failure_margin`: the excess loss, in nats, that the forecast looks for.
    Numbers are kept to nine digits, so that every machine finds the same digest.
    """
    challenged = "challenger_score" in scored.columns
    rows = scored if challenged else scored.with_columns(challenger_score=pl.lit(None, pl.Float64))
    both = rows.filter(pl.col("challenger_score").is_not_null())
    estimated, loss_rise, estimated_rise = _against(profile.holdout, scored)
    evidence = MonitorEvidence(
        pipeline=pipeline,
        release=release,
        window=Window(start, end, scored.height, labelled(scored).height),
        breaches=breaches(days, profile, feed_rules),
        drift=drift(days, profile),
        measured=_if_any(lambda: performance(scored)),
        challenger=_if_any(lambda: performance(both, score="challenger_score")),
        estimated=estimated,
        advantage=_if_any(lambda: challenger_advantage(rows)),
        loss_rise=loss_rise,
        bias=_if_any(lambda: calibration_bias(scored)),
        estimated_rise=estimated_rise,
        forecast=_if_any(lambda: _trend(rows, failure_margin)),
    )
    kept: MonitorEvidence = _rounded(evidence)
    return kept


def _against(
    holdout: Holdout | None, scored: pl.DataFrame
) -> tuple[EstimatedPerformance | None, DayTest | None, DayTest | None]:
    """CBPE, and the rises of measured and of estimated loss; all None without a holdout."""
    if holdout is None:
        return None, None, None
    scale = holdout.calibration
    return (
        _if_any(lambda: estimated_performance(scored, scale)),
        _if_any(lambda: degradation(scored, holdout.log_loss)),
        _if_any(lambda: estimated_degradation(scored, scale, holdout.expected_log_loss)),
    )


def _if_any(witness: Callable[[], T]) -> T | None:
    """A witness with too little data is absent, not wrong."""
    try:
        return witness()
    except EmptyWindow:
        return None


def _trend(rows: pl.DataFrame, margin: float) -> Forecast:
    excess = daily_excess(rows)
    return forecast([day.toordinal() for day in excess], list(excess.values()), margin=margin)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else value
    if isinstance(value, tuple):
        return tuple(_rounded(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _rounded(getattr(value, f.name)) for f in fields(value)})
    return value
