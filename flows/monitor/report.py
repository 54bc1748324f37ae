"""What people see of a decision: its text, a ranking of features, and plots.

Plots are PNG data URIs that a Prefect artifact or a page can show. Line styles and
markers carry the same distinction as the colours.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from flows.ledger import path_of
from flows.monitor.decide import Decision
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.feature_checks import ColumnDrift
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import alarm_above
from flows.profile.performance import Performance, daily_performance
from flows.profile.plots import BLUE, GREEN, GREY, ORANGE, figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEATURES_SHOWN = 20
_EPOCH = date(1970, 1, 1)


def write_decision(decision: Decision, commit: str) -> str:
    """Markdown: what to do and why, and where the ledger has it."""
    notes = "".join(f"\n- {note}" for note in decision.notes)
    return (
        f"## {decision.action}\n\n{decision.explanation}\n{notes}\n\n"
        f"Ledger `{path_of(decision.id)}` at `{commit}`."
    )


def rank_drift(evidence: MonitorEvidence) -> list[dict[str, object]]:
    """A table row for each feature, the one that moved most first."""
    return [
        {
            "feature": move.column,
            "PSI": round(move.psi, 4),
            "JS": round(move.js, 4),
            "KS": None if move.ks is None else round(move.ks, 4),
            "moved by (sd)": None if move.shift_sd is None else round(move.shift_sd, 3),
            "day-level t": None if move.test is None else round(move.test.t, 2),
        }
        for move in evidence.drift
    ]


def plot_drift(evidence: MonitorEvidence, rules: MonitorRules | None = None) -> str:
    """PSI of the features that moved most; those whose day means alarm stand out."""
    shown = evidence.drift[:_FEATURES_SHOWN]
    rules = rules or MonitorRules()
    # The same bar as the decision's: before labels, CBPE shares the rate with the features.
    tests = sum(m.test is not None for m in evidence.drift) + (evidence.estimated_rise is not None)
    alarming = [_is_alarming(move, rules, tests) for move in shown]
    canvas, axes = figure(height=1.6 + 0.28 * len(shown))
    places = range(len(shown))
    bars = axes.barh(
        places,
        [move.psi for move in shown],
        color=[ORANGE if a else GREY for a in alarming],
        hatch=["//" if a else "" for a in alarming],
        edgecolor="white",
    )
    axes.set_yticks(places, [_shorten(move.column) for move in shown])
    axes.bar_label(bars, [_label_t(move) for move in shown], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.set_xlabel("PSI from the training days (no unit); beside it the day-level t")
    axes.set_title(f"Features of {evidence.release} that moved, {_name_days(evidence)}", loc="left")
    _draw_key(axes, {"day means alarm": (ORANGE, "//"), "explains only": (GREY, "")})
    return png(canvas)


def plot_daily_loss(scored: pl.DataFrame, decision: Decision) -> str:
    """Champion's and challenger's log loss a day; the alarm stands at the window's end."""
    canvas, axes = figure(height=4.0)
    _draw_line(axes, daily_performance(scored), f"champion {decision.release}", BLUE, "o-")
    if "challenger_score" in scored.columns:
        both = scored.filter(pl.col("challenger_score").is_not_null())
        daily = daily_performance(both, score="challenger_score")
        _draw_line(axes, daily, "fresh challenger", ORANGE, "s--")
    if decision.alarm:
        _draw_mark(axes, decision.window_end, f"alarm: {decision.witness}")
    axes.set_ylabel("log loss (nats a prediction)")
    axes.set_title(f"Log loss by day, {decision.release}", loc="left")
    _draw_dates(axes)
    axes.legend(frameon=False, loc="best")
    return png(canvas)


def _is_alarming(move: ColumnDrift, rules: MonitorRules, tests: int) -> bool:
    if move.test is None:
        return False
    bar = alarm_above(
        move.test.dof, checks_per_false_alarm=rules.checks_per_false_alarm, tests=tests, sides=2
    )
    return abs(move.test.t) > bar


def _label_t(move: ColumnDrift) -> str:
    return "too few days" if move.test is None else f"t = {move.test.t:+.1f}"


def _shorten(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _name_days(evidence: MonitorEvidence) -> str:
    return f"{evidence.window.start:%Y-%m-%d} to {evidence.window.end:%Y-%m-%d}"


def _number_day(day: date) -> float:
    """matplotlib's own axis of days."""
    return float((day - _EPOCH).days)


def _draw_line(
    axes: "Axes", daily: Mapping[date, Performance], label: str, color: str, style: str
) -> None:
    days, losses = [_number_day(day) for day in daily], [day.log_loss for day in daily.values()]
    axes.plot(days, losses, style, color=color, label=label, markersize=4, linewidth=1.4)


def _draw_mark(axes: "Axes", when: date | datetime, text: str) -> None:
    day = _number_day(when.date() if isinstance(when, datetime) else when)
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


def _draw_dates(axes: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("day (UTC)")


def _draw_key(axes: "Axes", entries: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=color, hatch=hatch, edgecolor="white", label=label)
        for label, (color, hatch) in entries.items()
    ]
    axes.legend(handles=patches, frameon=False, loc="lower right")
