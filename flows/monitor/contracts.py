"""Level 1: what a served feature's feed promises. A breach means mend the feed, not the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

from flows.profile.grid import Names
from flows.profile.profile import Days, Profile
from flows.profile.sketch import ColumnSketch

Rule = Literal["schema", "range", "missing-jump", "new-category"]


@dataclass(frozen=True)
class FeedRules:
    """How far a day's feed may stray from the reference; shares of the day's rows.

    Days with fewer than `min_rows` are too small to judge.
    """

    missing_jump: float = 0.1
    outside_jump: float = 0.05
    min_rows: int = 50


@dataclass(frozen=True)
class Breach:
    """A column that broke a rule on a day: the share seen, the share allowed, examples."""

    column: str
    rule: Rule
    day: str
    observed: float
    limit: float
    examples: str = ""


def breaches(days: Days, profile: Profile, rules: FeedRules) -> tuple[Breach, ...]:
    """Breaches of every day and column, the gravest first."""
    found = [
        breach
        for day, part in days.items()
        for name, column in part.columns.items()
        if column.rows >= rules.min_rows
        for breach in _column_breaches(name, day, column, profile, rules)
    ]
    return tuple(sorted(found, key=lambda b: (b.limit - b.observed, b.column, b.day)))


def _column_breaches(
    name: str, day: date, column: ColumnSketch, profile: Profile, rules: FeedRules
) -> Iterator[Breach]:
    # The reference's own worst day is normal: some feeds lose a day now and then.
    missing_limit = max(profile.day_missing[name]) + rules.missing_jump
    if column.missing_rate > missing_limit:
        yield Breach(name, "missing-jump", day.isoformat(), column.missing_rate, missing_limit)
    reference = profile.sketch.columns[name]
    outside_limit = _outside_rate(reference) + rules.outside_jump
    if _outside_rate(column) > outside_limit:
        rule: Rule = "new-category" if isinstance(column.axis, Names) else "range"
        examples = ", ".join(list(column.new_names)[:3])
        yield Breach(name, rule, day.isoformat(), _outside_rate(column), outside_limit, examples)


def _outside_rate(column: ColumnSketch) -> float:
    return column.outside / column.present if column.present else 0.0
