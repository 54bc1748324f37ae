"""How far the columns of a table moved between two commits, from one pass over each side.

The sketches and distances are those by which monitoring compares what is served with what was
learnt; here the earlier commit is the reference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from flows.profile.distances import jensen_shannon, mean, sd
from flows.profile.grid import CELLS, Axis, Cells, Grid, is_text
from flows.profile.sketch import ColumnSketch, Sketch, merge_all, sketch

# Rows that are sketched at a time.
_CHUNK_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class ColumnMove:
    """One column at two commits.

    js: Jensen-Shannon distance of the values, 0 (the same shares) to 1 (none in common), over
        tenths of the earlier values for numbers, over names for text; None without values.
    shift_sd: how far the mean of numbers moved, in standard deviations of the earlier ones.
    missing_*: share of null or NaN. `new_names`: names that the earlier commit did not have.
    """

    column: str
    js: float | None
    shift_sd: float | None
    missing_before: float
    missing_after: float
    new_names: tuple[str, ...]


def column_moves(
    before: pl.LazyFrame, after: pl.LazyFrame, *, leave_out: Sequence[str] = ()
) -> list[ColumnMove]:
    """Every column of numbers, truth values or text on both sides; the furthest move first.

    Times and the columns in `leave_out`, such as the key, are not compared: they always move.
    """
    old, new = before.collect_schema(), after.collect_schema()
    names = [n for n in old if n in new and n not in leave_out and _comparable(old[n], new[n])]
    if not names:
        return []
    grid = _grid(before.select(names))
    sides = [_sketched(side.select(names), grid) for side in (before, after)]
    if not all(side.rows for side in sides):
        return []
    moves = [_move(name, *(side.columns[name] for side in sides)) for name in names]
    return sorted(moves, key=lambda move: (-(move.js or 0.0), -_gap(move), move.column))


def _comparable(old: pl.DataType, new: pl.DataType) -> bool:
    both_text = is_text(old) and is_text(new)
    return both_text or (old.is_numeric() and new.is_numeric())


def _grid(reference: pl.LazyFrame) -> Grid:
    """What `Grid.of` makes of all rows, from the few that decide it."""
    axes: dict[str, Axis] = {}
    for name, dtype in reference.collect_schema().items():
        column = reference.select(name)
        few = _frequent(column, name) if is_text(dtype) else _extremes(column, name)
        axes |= Grid.of(few).axes
    return Grid(axes)


def _extremes(column: pl.LazyFrame, name: str) -> pl.DataFrame:
    finite = column.filter(pl.col(name).cast(pl.Float64).is_finite())
    ends = finite.select(low=pl.col(name).min(), high=pl.col(name).max())
    found = ends.collect(engine="streaming")
    return pl.DataFrame({name: pl.concat([found["low"], found["high"].alias("low")])})


def _frequent(column: pl.LazyFrame, name: str) -> pl.DataFrame:
    counted = column.drop_nulls().group_by(name).agg(pl.len().alias("_rows"))
    most = counted.sort(["_rows", name], descending=[True, False]).head(CELLS)
    return most.select(name).collect(engine="streaming")


def _sketched(rows: pl.LazyFrame, grid: Grid) -> Sketch:
    return merge_all((sketch(chunk, grid, "all") for chunk in _chunks(rows)), grid)


def _chunks(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    yield from rows.collect_batches(chunk_size=_CHUNK_ROWS)


def _move(name: str, before: ColumnSketch, after: ColumnSketch) -> ColumnMove:
    told = before.present and after.present
    return ColumnMove(
        name,
        jensen_shannon(after, before) if told else None,
        _shift(before, after) if told else None,
        before.missing_rate,
        after.missing_rate,
        tuple(after.new_names),
    )


def _shift(before: ColumnSketch, after: ColumnSketch) -> float | None:
    if not isinstance(before.axis, Cells) or not (spread := sd(before)):
        return None
    return (mean(after) - mean(before)) / spread


def _gap(move: ColumnMove) -> float:
    return abs(move.missing_after - move.missing_before)
