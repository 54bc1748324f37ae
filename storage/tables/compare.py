"""What changed in a dataset between two commits, by key, reading only the files that differ.

Nothing is read whole: rows are taken in parts that a hash of the key tells apart, so that memory
is bounded by the size of a part, whatever the tables hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from storage import tables
from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin, url

# Rows of both sides together that one part may hold, about.
PART_ROWS = 1_000_000


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

    def without(self, keys: pl.DataFrame) -> "Changes":
        """The same, but for the rows with these keys."""
        left = partial(pl.DataFrame.join, on=list(self.key), how="anti", nulls_equal=True)
        return replace(
            self,
            added=left(self.added, keys),
            changed=left(self.changed, keys),
            removed=left(self.removed, keys),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two states of a table, to be compared part by part; `schema` says what columns became.

    `rows` bounds what both sides hold together in files that differ.
    """

    key: tuple[str, ...]
    schema: tuple[str, ...]
    rows: int
    before: pl.LazyFrame
    after: pl.LazyFrame

    @property
    def parts(self) -> int:
        """Into how many parts the rows are best divided."""
        return -(-self.rows // PART_ROWS) or 1

    def __iter__(self) -> Iterator[Changes]:
        return (self.part(number, self.parts) for number in range(self.parts))

    def part(self, number: int, of: int) -> Changes:
        """The changes of every key whose hash falls into one part."""
        before, after = (_part(side, self.key, number, of) for side in (self.before, self.after))
        match = partial(pl.DataFrame.join, on=list(self.key), nulls_equal=True)
        added, removed = match(after, before, how="anti"), match(before, after, how="anti")
        both = match(match(after, removed, how="anti"), added, how="anti")
        # A column of another type has no values that could be the same.
        common = [c for c, t in after.schema.items() if before.schema.get(c) == t]
        same = before.select(common)
        changed = both.join(same, on=common, how="anti", nulls_equal=True)
        return Changes(self.key, added, changed, removed, self.schema)

    def repeated(self, number: int, of: int) -> pl.DataFrame:
        """Keys of one part that stand more than once on the later side: they name no one row."""
        rows = _part(self.after.select(self.key), self.key, number, of)
        return rows.filter(rows.is_duplicated()).unique()


def together(parts: Sequence[Changes]) -> Changes:
    """Several parts of one comparison as one; at least one must be given."""
    kinds = {
        kind: pl.concat([getattr(part, kind) for part in parts])
        for kind in ("added", "changed", "removed")
    }
    return replace(parts[0], **kinds)


def changes(lake: Lake, left: Pin, right: Pin, table: str, *, key: Sequence[str]) -> Changes:
    """All changes from `left` to `right` at once, for what fits into memory. Raises as `compare`.

    A table missing on one side counts as empty there.
    """
    return compare(lake, left, right, table, key=key).part(0, 1)


def compare(lake: Lake, left: Pin, right: Pin, table: str, *, key: Sequence[str]) -> Comparison:
    """Set two states of a table side by side; the rows are read later.

    Raises: NotFound if the table is on neither side, Refused without a key or if its columns
    changed their type.
    """
    if not key:
        raise Refused(f"{table} has no key to compare rows by.", remedy="Name one: --key COLUMN.")
    sides = [_side(lake, pin, table) for pin in (left, right)]
    if sides == [None, None]:
        raise NotFound(
            f"There is no dataset {table} at {left.commit[:12]} or {right.commit[:12]}.",
            remedy="`headrace data ls --on REF` prints those there are.",
        )
    old, new = sides
    before = _rows(lake, left, table, old.keys() - (new or {})) if old is not None else None
    after = _rows(lake, right, table, new.keys() - (old or {})) if new is not None else None
    # A side without the table is empty, with the other's columns.
    before, after = _either(before, after), _either(after, before)
    schema = schema_changes(before, after)
    _require_key(table, key, before, after, schema)
    rows = sum(count for one, other in (sides, sides[::-1]) for count in _only_in(one, other))
    return Comparison(tuple(key), schema, rows, before, after)


_Files = Mapping[str, int]


def _side(lake: Lake, pin: Pin, table: str) -> _Files | None:
    """The table's files with their rows; None where there is no such table."""
    try:
        found = tables.snapshot(lake, pin.repository, pin.commit, table)
    except NotFound:
        return None
    return dict(zip(found.files, found.file_rows, strict=True))


def _only_in(one: _Files | None, other: _Files | None) -> list[int]:
    return [rows for name, rows in (one or {}).items() if name not in (other or {})]


def _either(one: pl.LazyFrame | None, other: pl.LazyFrame | None) -> pl.LazyFrame:
    if one is not None:
        return one
    return other.clear() if other is not None else pl.LazyFrame()


def _require_key(
    table: str,
    key: Sequence[str],
    before: pl.LazyFrame,
    after: pl.LazyFrame,
    schema: tuple[str, ...],
) -> None:
    old, new = before.collect_schema(), after.collect_schema()
    if missing := [k for k in key if k not in old or old.get(k) != new.get(k)]:
        said = "; ".join(schema) or f"its columns are {', '.join(new)}"
        raise Refused(
            f"{table} has no key column {missing[0]} of one type on both sides: {said}.",
            remedy="Name another key, or compare the sides by hand.",
        )


def _part(side: pl.LazyFrame, key: Sequence[str], number: int, of: int) -> pl.DataFrame:
    if of > 1:
        side = side.filter(pl.struct(key).hash() % of == number)
    return side.collect(engine="streaming")


def _rows(lake: Lake, pin: Pin, table: str, files: AbstractSet[str]) -> pl.LazyFrame:
    whole = tables.scan(lake, pin, table)
    if not files:
        return whole.clear()
    handle = tables.open_table(lake, pin.repository, pin.commit, table)
    if handle.metadata().partition_columns:
        # Partition values stand in the log, not in the files.
        return whole
    root = url(pin.repository, pin.commit, tables.path_of(table))
    return pl.scan_parquet(
        [f"{root}/{name}" for name in sorted(files)],
        glob=False,
        storage_options=lake.storage_options,
        schema=whole.collect_schema(),
        missing_columns="insert",
    )


def schema_changes(before: pl.LazyFrame, after: pl.LazyFrame) -> tuple[str, ...]:
    """`column: type -> type` for every column that is not the same on both sides, by name."""
    old, new = before.collect_schema(), after.collect_schema()
    return tuple(
        f"{n}: {old.get(n, 'none')} -> {new.get(n, 'none')}"
        for n in sorted({*old, *new})
        if old.get(n) != new.get(n)
    )
