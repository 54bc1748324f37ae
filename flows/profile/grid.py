"""The grid that makes sketches comparable: one axis a column, laid out by a reference."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from flows.arrays import Floats
from flows.errors import Misconfigured
from flows.profile.record import broken, canonical_json

CELLS = 4096
_HUGE = 1e300


@dataclass(frozen=True)
class Cells:
    """Numeric axis: `CELLS` equal cells from `lo` to `hi`, one bucket below and one above."""

    lo: float
    hi: float

    @property
    def buckets(self) -> int:
        """Underflow, the cells, overflow."""
        return CELLS + 2

    @cached_property
    def midpoints(self) -> Floats:
        """One value a bucket; the outer two stand at the edges, so means are winsorised."""
        width = (self.hi - self.lo) / CELLS
        middles = self.lo + width * (np.arange(CELLS) + 0.5)
        return np.concatenate(([self.lo], middles, [self.hi]))


@dataclass(frozen=True)
class Names:
    """Category axis: the reference's `CELLS` most frequent names and one bucket for others."""

    names: tuple[str, ...]

    @property
    def buckets(self) -> int:
        """The names, then every other name together."""
        return len(self.names) + 1


Axis = Cells | Names


@dataclass(frozen=True)
class Grid:
    """The axes, by column, that make sketches comparable."""

    axes: Mapping[str, Axis]

    @classmethod
    def of(cls, reference: pl.DataFrame) -> "Grid":
        """Axes from a reference: each numeric range three times over, each category's names.

        Raises: Misconfigured for a column that is neither numeric, boolean nor text.
        """
        return cls({name: _axis(reference[name]) for name in reference.columns})

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: sketches merge only on equal grids."""
        return hashlib.sha256(canonical_json(self.to_plain())).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        """JSON value; bounds are decimal strings."""
        return {
            name: {"names": list(axis.names)}
            if isinstance(axis, Names)
            else {"lo": repr(axis.lo), "hi": repr(axis.hi)}
            for name, axis in self.axes.items()
        }

    @classmethod
    def from_plain(cls, value: Any) -> "Grid":
        """The grid of `to_plain`. Raises: ContractBroken, rule "record"."""
        try:
            return cls({name: _axis_from_plain(axis) for name, axis in value.items()})
        except (AttributeError, KeyError, TypeError, ValueError) as cause:
            raise broken(f"a grid cannot be read: {cause!r}") from cause


def _axis(reference: pl.Series) -> Axis:
    if is_text(reference.dtype):
        return Names(tuple(sorted(_frequent(reference))))
    if not reference.dtype.is_numeric():
        raise Misconfigured(
            f"column {reference.name} is {reference.dtype}: only numbers, booleans and text "
            "can be sketched",
            remedy="leave it out, or derive a number from it",
        )
    values = reference.cast(pl.Float64)
    finite = values.filter(values.is_between(-_HUGE, _HUGE))
    return _thrice(_float(finite.min()), _float(finite.max()))


def _float(extreme: object) -> float:
    return extreme if isinstance(extreme, float) else 0.0


def _thrice(lo: float, hi: float) -> Cells:
    """The range three times over; a constant gets its own size, at least 1, on each side."""
    size = max(abs(lo), abs(hi))
    reach = hi - lo if hi - lo > 1e-9 * size and hi - lo > 1 / _HUGE else 1.5 * max(size, 1.0)
    return Cells(lo - reach, hi + reach)


def is_text(dtype: pl.DataType) -> bool:
    """Are values of this type counted by name?"""
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean)


def tally_names(values: pl.Series) -> dict[str, int]:
    """Rows of each name; nulls left out."""
    counted = values.drop_nulls().value_counts(name="rows_counted")
    return dict(zip(counted[values.name].cast(pl.String), counted["rows_counted"], strict=True))


def _frequent(values: pl.Series) -> list[str]:
    tally = tally_names(values)
    return sorted(tally, key=lambda name: (-tally[name], name))[:CELLS]


def _axis_from_plain(value: Any) -> Axis:
    if "names" in value:
        return Names(tuple(value["names"]))
    axis = Cells(float(value["lo"]), float(value["hi"]))
    if not (math.isfinite(axis.hi - axis.lo) and axis.lo < axis.hi):
        raise broken("a grid has an empty or infinite axis")
    return axis
