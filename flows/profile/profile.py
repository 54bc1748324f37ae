"""What a release remembers of its training data and holdout, for every later comparison."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from flows.arrays import Floats
from flows.errors import EmptyWindow
from flows.profile.cbpe import CalibrationMap
from flows.profile.grid import Cells, Grid
from flows.profile.performance import daily_expected_log_loss, daily_performance, keep_labelled
from flows.profile.record import broken, canonical_json, parse_json
from flows.profile.sketch import ColumnSketch, Sketch, merge_all, sketch

Days = Mapping[date, Sketch]


@dataclass(frozen=True)
class Holdout:
    """Day means of the release's own holdout, in nats, and how its scores map to rates.

    `log_loss` is measured; `expected_log_loss` is CBPE's estimate on the same days.
    """

    log_loss: tuple[float, ...]
    expected_log_loss: tuple[float, ...]
    calibration: CalibrationMap

    @classmethod
    def of(cls, scored: pl.DataFrame) -> "Holdout":
        """From the holdout's rows, as `performance` takes them, all labelled.

        Raises: EmptyWindow for no labelled row.
        """
        rows = keep_labelled(scored)
        if rows.is_empty():
            raise EmptyWindow("a holdout needs labelled rows")
        calibration = CalibrationMap.fit(rows["score"].to_numpy(), rows["label"].to_numpy())
        measured = tuple(day.log_loss for day in daily_performance(rows).values())
        expected = tuple(daily_expected_log_loss(rows, calibration).values())
        return cls(measured, expected, calibration)


@dataclass(frozen=True)
class Profile:
    """The reference profile of a release: grid, whole sketch, day by day means and gaps.

    `day_means` and `day_missing` hold one number a reference day, by column, in time order;
    a day without values has mean NaN.
    """

    sketch: Sketch
    day_means: Mapping[str, tuple[float, ...]]
    day_missing: Mapping[str, tuple[float, ...]]
    holdout: Holdout | None = None

    @property
    def grid(self) -> Grid:
        """The axes on which windows must be sketched to be compared."""
        return self.sketch.grid

    @classmethod
    def of(
        cls,
        reference: pl.DataFrame,
        *,
        day: str,
        columns: Sequence[str],
        holdout: Holdout | None = None,
    ) -> "Profile":
        """The profile of the training rows; `day` names their date column.

        Raises: EmptyWindow for no rows; Misconfigured for a column that cannot be sketched.
        """
        if reference.is_empty():
            raise EmptyWindow("a reference profile needs rows")
        days = sketch_days(reference, Grid.of(reference.select(columns)), day=day)
        whole = merge_all(days.values(), next(iter(days.values())).grid)
        missing = {
            name: tuple(part.columns[name].missing_rate for part in days.values())
            for name in columns
        }
        return cls(whole, day_means(days, whole), missing, holdout)

    def to_json(self) -> bytes:
        """Canonical bytes: the payload file of a release."""
        holdout = self.holdout
        return canonical_json(
            {
                "grid": self.grid.to_plain(),
                "sketch": parse_json(self.sketch.to_json(), "a sketch"),
                "day_means": _decimals(self.day_means),
                "day_missing": _decimals(self.day_missing),
                "holdout": holdout
                and {
                    "log_loss": [repr(float(x)) for x in holdout.log_loss],
                    "expected_log_loss": [repr(float(x)) for x in holdout.expected_log_loss],
                    "scores": [repr(float(x)) for x in holdout.calibration.scores],
                    "rates": [repr(float(x)) for x in holdout.calibration.rates],
                },
            }
        )

    @classmethod
    def from_json(cls, payload: bytes) -> "Profile":
        """The profile of `to_json`. Raises: ContractBroken, rule "record"."""
        value = parse_json(payload, "a profile")
        try:
            grid = Grid.from_plain(value["grid"])
            whole = Sketch.from_json(canonical_json(value["sketch"]), grid)
            means, missing = _floats(value["day_means"]), _floats(value["day_missing"])
            return cls(whole, means, missing, _holdout(value["holdout"]))
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            raise broken(f"a profile cannot be read: {cause!r}") from cause


def sketch_days(frame: pl.DataFrame, grid: Grid, *, day: str) -> dict[date, Sketch]:
    """One sketch a day, in time order; `day` names a date column without nulls."""
    parts = frame.partition_by(day, as_dict=True)
    return {key[0]: sketch(parts[key], grid, key[0].isoformat()) for key in sorted(parts)}


def day_means(days: Days, reference: Sketch) -> dict[str, tuple[float, ...]]:
    """One number a day and column; NaN for a day without a value.

    Numbers: the mean. Categories: the mean surprise -ln(share in the reference), in nats,
    which moves when rows go from common names to rare ones, not between equally common ones.
    """
    values = {name: _bucket_values(column) for name, column in reference.columns.items()}
    return {
        name: tuple(_day_mean(part.columns[name], values[name]) for part in days.values())
        for name in reference.columns
    }


def _bucket_values(reference: ColumnSketch) -> Floats:
    if isinstance(reference.axis, Cells):
        return reference.axis.midpoints
    # A name never seen is as surprising as half a row would have been.
    shares = np.maximum(reference.counts, 0.5) / max(reference.present, 1)
    return -np.log(shares)


def _day_mean(column: ColumnSketch, values: Floats) -> float:
    return float(column.counts @ values) / column.present if column.present else math.nan


def _decimals(series: Mapping[str, tuple[float, ...]]) -> dict[str, list[str]]:
    return {name: [repr(float(x)) for x in days] for name, days in series.items()}


def _floats(value: Any) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(x) for x in days) for name, days in value.items()}


def _holdout(value: Any) -> Holdout | None:
    if value is None:
        return None
    series = {name: tuple(float(x) for x in value[name]) for name in value}
    calibration = CalibrationMap(series["scores"], series["rates"])
    return Holdout(series["log_loss"], series["expected_log_loss"], calibration)
