"""How the tables of two commits differ: schema, rows by key, and how far each column moved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from flows.data.drift import ColumnMove, column_moves
from storage import tables
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.tables.compare import Comparison, compare, schema_changes

SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Keys:
    """How many rows, and the keys of the first few in order."""

    count: int
    sample: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One table on both sides; rows are None where it does not exist.

    Without a key, rows cannot be told apart: `added`, `changed` and `removed` are None then.
    """

    table: str
    rows_before: int | None
    rows_after: int | None
    schema: tuple[str, ...]
    key: tuple[str, ...]
    added: Keys | None = None
    changed: Keys | None = None
    removed: Keys | None = None
    drift: tuple[ColumnMove, ...] = ()


def differences(
    lake: Lake,
    left: Pin,
    right: Pin,
    *,
    keys: Mapping[str, Sequence[str]],
    table: str | None = None,
    sample: int = SAMPLE,
) -> list[Difference]:
    """From `left` to `right`: every table that was touched, or the one that is named.

    Raises NotFound if the named table is on neither side.
    """
    names = [table] if table else touched(lake, left, right)
    return [
        _difference(lake, left, right, name, tuple(keys.get(name, ())), sample) for name in names
    ]


def touched(lake: Lake, left: Pin, right: Pin) -> list[str]:
    """Tables with a path that differs."""
    diff = lake.fs.diff(left.repository, left.commit, right.commit, prefix=f"{tables.ROOT}/")
    there = {n for pin in (left, right) for n in tables.names(lake, pin.repository, pin.commit)}
    folders = {name: f"{tables.path_of(name)}/" for name in there}
    return sorted(n for n, f in folders.items() if any(c.path.startswith(f) for c in diff))


def _difference(
    lake: Lake, left: Pin, right: Pin, table: str, key: tuple[str, ...], sample: int
) -> Difference:
    before, after = _rows(lake, left, table), _rows(lake, right, table)
    if before is None and after is None:
        raise NotFound(
            f"There is no dataset {table} at {left.commit[:12]} or {right.commit[:12]}.",
            remedy="`headrace data ls --on REF` prints those there are.",
        )
    schema, moves = (
        _columns(lake, left, right, table, key)
        if before is not None and after is not None
        else ((), ())
    )
    if not key:
        return Difference(table, before, after, schema, (), drift=moves)
    found = compare(lake, left, right, table, key=key)
    kinds = _keys(found, sample)
    return Difference(table, before, after, found.schema, key, **kinds, drift=moves)


def _columns(
    lake: Lake, left: Pin, right: Pin, table: str, key: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[ColumnMove, ...]]:
    before, after = (tables.scan(lake, pin, table) for pin in (left, right))
    return schema_changes(before, after), tuple(column_moves(before, after, leave_out=key))


def _rows(lake: Lake, pin: Pin, table: str) -> int | None:
    try:
        return tables.snapshot(lake, pin.repository, pin.commit, table).rows
    except NotFound:
        return None


def _keys(found: Comparison, sample: int) -> dict[str, Keys]:
    """By kind of change: how many keys, and the first in order, a part of the rows at a time."""
    key = list(found.key)
    counts = dict.fromkeys(("added", "changed", "removed"), 0)
    first = {kind: pl.DataFrame() for kind in counts}
    for part in found:
        for kind in counts:
            keys = getattr(part, kind).select(key)
            counts[kind] += keys.height
            both = pl.concat([first[kind], keys]) if first[kind].width else keys
            first[kind] = both.sort(key).head(sample)
    return {kind: Keys(n, tuple(map(_plain, first[kind].rows()))) for kind, n in counts.items()}


def _plain(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """JSON has no word for NaN."""
    return tuple("NaN" if isinstance(part, float) and math.isnan(part) else part for part in key)
