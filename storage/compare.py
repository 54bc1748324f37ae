"""What changed in a dataset between two commits, by key, reading only the files that differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from storage import tables
from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin, url


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows that a change touched: `added` and `changed` as they are now, `removed` as they were."""

    key: tuple[str, ...]
    added: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame
    schema: tuple[str, ...]

    @property
    def keys(self) -> pl.DataFrame:
        """The key of every row that was touched."""
        return pl.concat([f.select(self.key) for f in (self.added, self.changed, self.removed)])

    def __bool__(self) -> bool:
        return not (self.keys.is_empty() and not self.schema)


def changes(lake: Lake, left: Pin, right: Pin, table: str, *, key: Sequence[str]) -> Changes:
    """From `left` to `right`. A table missing on one side counts as empty there.

    Raises: NotFound if it is on neither side, Refused without a key.
    """
    if not key:
        raise Refused(f"{table} has no key to compare rows by.", remedy="Name one: --key COLUMN.")
    before, after = _differing(lake, left, right, table)
    schema = _schema_changes(before, after)
    # A column of another type has no values that could be the same.
    common = [c for c, t in after.schema.items() if before.schema.get(c) == t]
    if missing := [k for k in key if k not in common]:
        raise Refused(
            f"{table} has no key column {missing[0]} of one type on both sides: "
            f"{'; '.join(schema)}.",
            remedy="Name another key, or compare the sides by hand.",
        )
    added = after.join(before, on=list(key), how="anti", nulls_equal=True)
    removed = before.join(after, on=list(key), how="anti", nulls_equal=True)
    kept = after.join(removed.select(key), on=list(key), how="anti", nulls_equal=True)
    same = before.select(common)
    touched = kept.join(added.select(key), on=list(key), how="anti", nulls_equal=True)
    changed = touched.join(same, on=common, how="anti", nulls_equal=True)
    return Changes(tuple(key), added, changed, removed, schema)


def _differing(lake: Lake, left: Pin, right: Pin, table: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    sides = [_files(lake, pin, table) for pin in (left, right)]
    if sides[0] is None and sides[1] is None:
        raise NotFound(f"There is no dataset {table} at {left} or {right}.")
    old, new = (s or frozenset() for s in sides)
    before = _rows(lake, left, table, sorted(old - new)) if sides[0] is not None else None
    after = _rows(lake, right, table, sorted(new - old)) if sides[1] is not None else None
    if before is None and after is not None:
        return after.clear(), after
    if after is None and before is not None:
        return before, before.clear()
    if before is None or after is None:
        raise NotFound(f"There is no dataset {table} at {left} or {right}.")
    return before, after


def _files(lake: Lake, pin: Pin, table: str) -> frozenset[str] | None:
    try:
        return frozenset(tables.snapshot(lake, pin.repository, pin.commit, table).files)
    except NotFound:
        return None


def _rows(lake: Lake, pin: Pin, table: str, files: list[str]) -> pl.DataFrame:
    if not files:
        return tables.scan(lake, pin, table).head(0).collect()
    handle = tables.open_table(lake, pin.repository, pin.commit, table)
    if handle.metadata().partition_columns:
        # Partition values stand in the log, not in the files.
        return tables.scan(lake, pin, table).collect()
    schema = tables.scan(lake, pin, table).collect_schema()
    root = url(pin.repository, pin.commit, tables.path_of(table))
    return pl.scan_parquet(
        [f"{root}/{f}" for f in files],
        storage_options=lake.storage_options,
        schema=schema,
        missing_columns="insert",
    ).collect()


def _schema_changes(before: pl.DataFrame, after: pl.DataFrame) -> tuple[str, ...]:
    names = sorted({*before.columns, *after.columns})
    return tuple(
        f"{n}: {before.schema.get(n, 'none')} -> {after.schema.get(n, 'none')}"
        for n in names
        if before.schema.get(n) != after.schema.get(n)
    )
