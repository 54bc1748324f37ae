"""Plots for people, as PNG data URIs that a Prefect artifact or a page can show.

Line styles and markers carry the same distinction as the colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from flows.monitor.decide import Decision
from flows.monitor.drift import ColumnDrift
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import alarm_above
from flows.profile.performance import Performance, daily_performance
from flows.profile.plots import BLUE, GREEN, GREY, ORANGE, figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEATURES_SHOWN = 20
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Month:
    """One month of the overview; `roc_auc` of a challenger is None where none was fitted."""

    month: date
    champion: float
    challenger: float | None


def drift_plot(evidence: MonitorEvidence, rules: MonitorRules | None = None) -> str:
    """PSI of the features that moved most; those whose day means alarm stand out."""
    shown = evidence.drift[:_FEATURES_SHOWN]
    rules = rules or MonitorRules()
    # The same bar as the decision's: before labels, CBPE shares the rate with the features.
    tests = sum(m.test is not None for m in evidence.drift) + (evidence.estimated_rise is not None)
    alarming = [_alarms(move, rules, tests) for move in shown]
    canvas, axes = figure(height=1.6 + 0.28 * len(shown))
    places = range(len(shown))
    bars = axes.barh(
        places,
        [move.psi for move in shown],
        color=[ORANGE if a else GREY for a in alarming],
        hatch=["//" if a else "" for a in alarming],
        edgecolor="white",
    )
    axes.set_yticks(places, [_short(move.column) for move in shown])
    axes.bar_label(bars, [_t_label(move) for move in shown], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set_xlabel("PSI from the training days (no unit); beside it the day-level t")
    axes.set_title(f"Features of {evidence.release} that moved, {_span(evidence)}", loc="left")
    _key(axes, {"day means alarm": (ORANGE, "//"), "explains only": (GREY, "")})
    return png(canvas)


def daily_loss_plot(scored: pl.DataFrame, decision: Decision) -> str:
    """Champion's and challenger's log loss a day; the alarm stands at the window's end."""
    canvas, axes = figure(height=4.0)
    _line(axes, daily_performance(scored), f"champion {decision.release}", BLUE, "o-")
    if "challenger_score" in scored.columns:
        both = scored.filter(pl.col("challenger_score").is_not_null())
        daily = daily_performance(both, score="challenger_score")
        _line(axes, daily, "fresh challenger", ORANGE, "s--")
    if decision.alarm:
        _mark(axes, decision.window_end, f"alarm: {decision.witness}")
    axes.set_ylabel("log loss (nats a prediction)")
    axes.set_title(f"Log loss by day, {decision.release}", loc="left")
    _dates(axes)
    axes.legend(frameon=False, loc="best")
    return png(canvas)


def months_plot(months: Sequence[Month], releases: Mapping[date, str]) -> str:
    """AUC a month, champion and challenger; `releases` maps the day of a change to its name."""
    canvas, axes = figure(height=4.2)
    axes.plot([_number(m.month) for m in months], [m.champion for m in months], "o-", color=BLUE,
              label="champion as served")  # fmt: skip
    fresh = [(_number(m.month), m.challenger) for m in months if m.challenger is not None]
    axes.plot([d for d, _ in fresh], [auc for _, auc in fresh], "s--", color=ORANGE,
              label="fresh challenger")  # fmt: skip
    axes.margins(y=0.25)
    for day, name in releases.items():
        _mark(axes, day, name)
    axes.set_ylabel("ROC AUC (no unit)")
    axes.set_title("Ranking quality by month, and the releases that changed it", loc="left")
    _dates(axes)
    axes.legend(edgecolor="none", framealpha=0.9, loc="lower left")
    return png(canvas)


def _alarms(move: ColumnDrift, rules: MonitorRules, tests: int) -> bool:
    if move.test is None:
        return False
    bar = alarm_above(
        move.test.dof, checks_per_false_alarm=rules.checks_per_false_alarm, tests=tests, sides=2
    )
    return abs(move.test.t) > bar


def _t_label(move: ColumnDrift) -> str:
    return "too few days" if move.test is None else f"t = {move.test.t:+.1f}"


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _span(evidence: MonitorEvidence) -> str:
    return f"{evidence.window.start:%Y-%m-%d} to {evidence.window.end:%Y-%m-%d}"


def _number(day: date) -> float:
    """matplotlib's own axis of days."""
    return float((day - _EPOCH).days)


def _line(
    axes: "Axes", daily: Mapping[date, Performance], label: str, color: str, style: str
) -> None:
    days, losses = [_number(day) for day in daily], [day.log_loss for day in daily.values()]
    axes.plot(days, losses, style, color=color, label=label, markersize=4, linewidth=1.4)


def _mark(axes: "Axes", when: date | datetime, text: str) -> None:
    day = _number(when.date() if isinstance(when, datetime) else when)
    axes.axvline(day, color=GREEN, linestyle="-.", linewidth=1.4)
    axes.annotate(
        text,
        (day, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -4),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=9,
    )


def _dates(axes: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("day (UTC)")


def _key(axes: "Axes", entries: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", label=label)
        for label, (color, hatch) in entries.items()
    ]
    axes.legend(handles=patches, frameon=False, loc="lower right")
