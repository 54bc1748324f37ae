"""How the tables of two commits differ, by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from storage import tables
from storage.compare import changes
from storage.errors import NotFound
from storage.lake import Lake, Pin

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


def differences(
    lake: Lake,
    left: Pin,
    right: Pin,
    *,
    keys: Mapping[str, Sequence[str]],
    table: str | None = None,
) -> list[Difference]:
    """From `left` to `right`: every table that was touched, or the one that is named.

    Raises NotFound if the named table is on neither side.
    """
    names = [table] if table else touched(lake, left, right)
    return [_difference(lake, left, right, name, tuple(keys.get(name, ()))) for name in names]


def touched(lake: Lake, left: Pin, right: Pin) -> list[str]:
    """Tables with a path that differs."""
    diff = lake.fs.diff(left.repository, left.commit, right.commit, prefix=f"{tables.ROOT}/")
    there = {n for pin in (left, right) for n in tables.names(lake, pin.repository, pin.commit)}
    folders = {name: f"{tables.path_of(name)}/" for name in there}
    return sorted(n for n, f in folders.items() if any(c.path.startswith(f) for c in diff))


def _difference(lake: Lake, left: Pin, right: Pin, table: str, key: tuple[str, ...]) -> Difference:
    before, after = _rows(lake, left, table), _rows(lake, right, table)
    if before is None and after is None:
        raise NotFound(
            f"There is no dataset {table} at {left.commit[:12]} or {right.commit[:12]}.",
            remedy="`headrace data ls --on REF` prints those there are.",
        )
    if not key:
        return Difference(table, before, after, (), ())
    found = changes(lake, left, right, table, key=key)
    return Difference(
        table,
        before,
        after,
        found.schema,
        key,
        added=_keys(found.added, key),
        changed=_keys(found.changed, key),
        removed=_keys(found.removed, key),
    )


def _rows(lake: Lake, pin: Pin, table: str) -> int | None:
    try:
        return tables.snapshot(lake, pin.repository, pin.commit, table).rows
    except NotFound:
        return None


def _keys(frame: pl.DataFrame, key: tuple[str, ...]) -> Keys:
    return Keys(frame.height, tuple(frame.select(key).sort(key).head(SAMPLE).rows()))
