"""A mergeable grid sketch of every column: any window against any reference, rows read once.

Per numeric column 4,096 equal cells over three times the reference range, per category
column the reference's names; with nulls, NaN, under- and overflow counted apart. All state is
whole numbers, so merging is exactly associative and a digest does not depend on the order.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.errors import ContractBroken, Misconfigured
from flows.profile.grid import CELLS, Axis, Cells, Grid, Names, is_text, tally_names
from flows.profile.record import broken, canonical_json, parse_json

Counts = NDArray[np.int64]
Scratch = tuple[NDArray[np.float64], NDArray[np.intp]]

NEW_NAMES_KEPT = 64
_BLOCK_ROWS = 32_768


@dataclass(frozen=True, eq=False)
class ColumnSketch:
    """Counts of one column on its axis; `new_names` are the first names not on the axis."""

    axis: Axis
    counts: Counts
    nulls: int = 0
    nans: int = 0
    new_names: Mapping[str, int] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """Rows counted, with or without a value."""
        return self.present + self.nulls + self.nans

    @property
    def missing_rate(self) -> float:
        """Share of rows that are null or NaN; NaN for no rows."""
        return (self.nulls + self.nans) / self.rows if self.rows else math.nan

    @property
    def outside(self) -> int:
        """Rows beyond three times the reference's range, or with a name it did not list."""
        low = int(self.counts[0]) if isinstance(self.axis, Cells) else 0
        return low + int(self.counts[-1])

    def merge(self, other: "ColumnSketch") -> "ColumnSketch":
        """Both together. Exact for the names kept too: the first K of a union are first in
        each part that holds them."""
        names = sorted({*self.new_names, *other.new_names})[:NEW_NAMES_KEPT]
        return ColumnSketch(
            self.axis,
            self.counts + other.counts,
            self.nulls + other.nulls,
            self.nans + other.nans,
            {name: self.new_names.get(name, 0) + other.new_names.get(name, 0) for name in names},
        )


@dataclass(frozen=True, eq=False)
class Sketch:
    """The column sketches of some partitions of a dataset."""

    grid: Grid
    partitions: tuple[str, ...]
    columns: Mapping[str, ColumnSketch]

    @classmethod
    def empty(cls, grid: Grid) -> "Sketch":
        """No rows: the identity of `merge`."""
        return cls(grid, (), {name: _blank(axis) for name, axis in grid.axes.items()})

    @property
    def rows(self) -> int:
        """Rows sketched."""
        return max((column.rows for column in self.columns.values()), default=0)

    def merge(self, other: "Sketch") -> "Sketch":
        """The sketch of both parts' rows. Raises: Misconfigured if their grids differ."""
        if self.grid.digest != other.grid.digest:
            raise Misconfigured(
                "sketches on different grids cannot be merged",
                remedy="sketch the partitions again on the grid of one reference",
            )
        columns = {name: own.merge(other.columns[name]) for name, own in self.columns.items()}
        partitions = tuple(sorted({*self.partitions, *other.partitions}))
        return Sketch(self.grid, partitions, columns)

    def to_json(self) -> bytes:
        """Canonical bytes without the grid, which is stored once; equal sketches, equal bytes."""
        columns = {name: _column_to_plain(column) for name, column in self.columns.items()}
        return canonical_json(
            {"grid": self.grid.digest, "partitions": list(self.partitions), "columns": columns}
        )

    @classmethod
    def from_json(cls, payload: bytes, grid: Grid) -> "Sketch":
        """The sketch of `to_json`. Raises: ContractBroken, rule "record"."""
        value = parse_json(payload, "a sketch")
        try:
            if value["grid"] != grid.digest:
                raise broken("a sketch was made on another grid")
            columns = {
                name: _column_from_plain(value["columns"][name], axis)
                for name, axis in grid.axes.items()
            }
            return cls(grid, tuple(value["partitions"]), columns)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as cause:
            raise broken(f"a sketch cannot be read: {cause!r}") from cause


def sketch(frame: pl.DataFrame, grid: Grid, partition: str) -> Sketch:
    """Count every column of the grid in `frame`; other columns are ignored.

    Raises: ContractBroken, rule "schema", for a missing column or one that changed its type.
    """
    scratch = np.empty(_BLOCK_ROWS), np.empty(_BLOCK_ROWS, dtype=np.intp)
    with np.errstate(over="ignore"):  # a value far beyond the grid becomes inf: still overflow
        columns = {
            name: _count(_column(frame, name, axis), axis, scratch)
            for name, axis in grid.axes.items()
        }
    return Sketch(grid, (partition,), columns)


def merge_all(parts: Iterable[Sketch], grid: Grid) -> Sketch:
    """All parts together; the empty sketch for none."""
    whole = Sketch.empty(grid)
    for part in parts:
        whole = whole.merge(part)
    return whole


def _column(frame: pl.DataFrame, name: str, axis: Axis) -> pl.Series:
    if name not in frame.columns:
        raise ContractBroken(f"column {name} is missing", rule="schema", column=name)
    values = frame[name]
    if isinstance(axis, Names) != is_text(values.dtype) or not (
        is_text(values.dtype) or values.dtype.is_numeric()
    ):
        raise ContractBroken(f"column {name} became {values.dtype}", rule="schema", column=name)
    return values


def _blank(axis: Axis) -> ColumnSketch:
    return ColumnSketch(axis, np.zeros(axis.buckets, dtype=np.int64))


def _count(values: pl.Series, axis: Axis, scratch: Scratch) -> ColumnSketch:
    if isinstance(axis, Names):
        return _count_names(values, axis)
    counts = np.zeros(axis.buckets, dtype=np.int64)
    plain = values.cast(pl.Float64) if values.dtype.is_decimal() else values
    missing = sum(_count_cells(c.to_numpy(), axis, counts, scratch) for c in plain.get_chunks())
    counts[0] -= missing
    nulls = values.null_count()
    return ColumnSketch(axis, counts, nulls, missing - nulls)


def _count_cells(values: NDArray[Any], axis: Cells, counts: Counts, scratch: Scratch) -> int:
    """Add to `counts` in blocks that stay in cache; returns how many were NaN.

    polars hands nulls over as NaN, and fmax sends every NaN to bucket 0.
    """
    scale = CELLS / (axis.hi - axis.lo)
    missing = 0
    for start in range(0, values.size, _BLOCK_ROWS):
        block = values[start : start + _BLOCK_ROWS]
        position, bucket = scratch[0][: block.size], scratch[1][: block.size]
        np.subtract(block, axis.lo, out=position)
        missing += int(np.isnan(position).sum())
        position *= scale
        position += 1.0
        np.fmax(position, 0.0, out=position)
        np.fmin(position, CELLS + 1.0, out=position)
        np.copyto(bucket, position, casting="unsafe")
        counts += np.bincount(bucket, minlength=axis.buckets)
    return missing


def _count_names(values: pl.Series, axis: Names) -> ColumnSketch:
    tally = tally_names(values)
    listed = [tally.pop(name, 0) for name in axis.names]
    counts = np.array([*listed, sum(tally.values())], dtype=np.int64)
    new = {name: tally[name] for name in sorted(tally)[:NEW_NAMES_KEPT]}
    return ColumnSketch(axis, counts, values.null_count(), 0, new)


def _column_to_plain(column: ColumnSketch) -> dict[str, Any]:
    """Counts as [buckets skipped, count, ...]: most cells of most columns are empty."""
    filled = np.flatnonzero(column.counts)
    skipped = np.diff(filled, prepend=-1) - 1
    runs = np.stack((skipped, column.counts[filled]), axis=1).ravel()
    plain: dict[str, Any] = {"counts": runs.tolist(), "nulls": column.nulls, "nans": column.nans}
    return plain | {"new": dict(column.new_names)}


def _column_from_plain(value: Any, axis: Axis) -> ColumnSketch:
    runs = np.array(value["counts"], dtype=np.int64).reshape(-1, 2)
    if (runs < 0).any() or min(value["nulls"], value["nans"]) < 0:
        raise broken("a sketch has negative counts")
    counts = _blank(axis).counts
    counts[np.cumsum(runs[:, 0] + 1) - 1] = runs[:, 1]
    return ColumnSketch(axis, counts, value["nulls"], value["nans"], dict(value["new"]))
