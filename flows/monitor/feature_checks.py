"""What the served features say by themselves.

Level 1, contracts: what a feature's feed promises; a breach means mend the feed, not the model.
Level 3, drift: which features moved; distances rank and explain, and only day means alarm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

from flows.errors import EmptyWindow
from flows.monitor.rules import FeedRules
from flows.profile.day_means import DayTest, shift_test
from flows.profile.distances import distances, sd
from flows.profile.grid import Cells, Names
from flows.profile.profile import Days, Profile, day_means
from flows.profile.sketch import ColumnSketch, merge_all

Rule = Literal["schema", "range", "missing-jump", "new-category"]


@dataclass(frozen=True)
class Breach:
    """A column that broke a rule on a day: the share seen, the share allowed, examples."""

    column: str
    rule: Rule
    day: str
    observed: float
    limit: float
    examples: str = ""


@dataclass(frozen=True)
class ColumnDrift:
    """One feature's move from the reference.

    `psi`, `js`, `ks` and `w1_sd` only rank; `test` alone can alarm (None with too few days).
    `shift_sd` is the move of the mean in reference standard deviations, None for categories.
    """

    column: str
    psi: float
    js: float
    ks: float | None
    w1_sd: float | None
    shift_sd: float | None
    test: DayTest | None


def find_breaches(days: Days, profile: Profile, rules: FeedRules) -> tuple[Breach, ...]:
    """Breaches of every day and column, the gravest first."""
    found = [
        breach
        for day, part in days.items()
        for name, column in part.columns.items()
        if column.rows >= rules.min_rows
        for breach in _find_column_breaches(name, day, column, profile, rules)
    ]
    return tuple(sorted(found, key=lambda b: (b.limit - b.observed, b.column, b.day)))


def measure_drift(days: Days, profile: Profile) -> tuple[ColumnDrift, ...]:
    """Every column with values, ranked by PSI, the largest first.

    A column without any value in the window is left out: contracts report it as missing.
    """
    window = merge_all(days.values(), profile.grid)
    means = day_means(days, profile.sketch)
    moves = [
        _measure_column(name, window.columns[name], means[name], profile)
        for name in profile.grid.axes
        if window.columns[name].present and profile.sketch.columns[name].present
    ]
    return tuple(sorted(moves, key=lambda move: (-move.psi, move.column)))


def _find_column_breaches(
    name: str, day: date, column: ColumnSketch, profile: Profile, rules: FeedRules
) -> Iterator[Breach]:
    # The reference's own worst day is normal: some feeds lose a day now and then.
    missing_limit = max(profile.day_missing[name]) + rules.missing_jump
    if column.missing_rate > missing_limit:
        yield Breach(name, "missing-jump", day.isoformat(), column.missing_rate, missing_limit)
    reference = profile.sketch.columns[name]
    outside_limit = _rate_outside(reference) + rules.outside_jump
    if _rate_outside(column) > outside_limit:
        rule: Rule = "new-category" if isinstance(column.axis, Names) else "range"
        examples = ", ".join(list(column.new_names)[:3])
        yield Breach(name, rule, day.isoformat(), _rate_outside(column), outside_limit, examples)


def _rate_outside(column: ColumnSketch) -> float:
    return column.outside / column.present if column.present else 0.0


def _measure_column(
    name: str, window: ColumnSketch, means: tuple[float, ...], profile: Profile
) -> ColumnDrift:
    reference = profile.sketch.columns[name]
    moved = distances(window, reference)
    numeric = isinstance(reference.axis, Cells)
    test = _test_shift(
        means, profile.day_means[name], "column's unit" if numeric else "nats of surprise"
    )
    spread = sd(reference) if numeric else 0.0
    shift = test.estimate / spread if test and spread > 0 else None
    return ColumnDrift(name, moved.psi, moved.js, moved.ks, moved.w1_sd, shift, test)


def _test_shift(
    means: tuple[float, ...], reference: tuple[float, ...], unit: str
) -> DayTest | None:
    try:
        return shift_test(means, reference, unit=unit)
    except EmptyWindow:
        return None
