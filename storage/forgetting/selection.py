"""Which rows are meant: those with given keys, or those older than a moment."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

import polars as pl
from deltalake import DeltaTable

from storage import tables
from storage.errors import Refused

# Shorter values stand in too much by chance.
_TELLING_CHARACTERS = 3
_CODED = (pl.Categorical, pl.Enum)


class Selection(Protocol):
    """Rows to be found in, and taken out of, any table or file that has their columns."""

    def concerns(self, path: str, /) -> bool:
        """Whether rows may be meant in the object at this path."""
        ...

    def can_search(self, schema: pl.Schema, /) -> bool:
        """Whether `of` can tell; what it cannot, such as lists, must be reported."""
        ...

    def of(self, rows: pl.LazyFrame) -> pl.LazyFrame | None:
        """The rows that are meant; None if none can be, for want of a column or its type."""
        ...

    def is_stated(self, text: str, /) -> bool:
        """Whether a text says whose rows are meant."""
        ...

    def delete(self, handle: DeltaTable, schema: pl.Schema, /) -> None:
        """Take them out of a table, as its next version; no value enters the table's log."""
        ...


@dataclass(frozen=True, slots=True)
class ByKey:
    """Rows whose columns have one of the given combinations of values, written as text."""

    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    def concerns(self, _path: str, /) -> bool:
        """Any object."""
        return True

    def can_search(self, schema: pl.Schema, /) -> bool:
        """Whether values of the columns' types can be written as text."""
        return all(_is_written_as_text(schema[c]) for c in self.columns if c in schema)

    def of(self, rows: pl.LazyFrame) -> pl.LazyFrame | None:
        """The rows with one of the keys, in the type that the columns have here."""
        schema = rows.collect_schema()
        if not set(self.columns) <= set(schema):
            return None
        # Names that a writer had coded are text all the same.
        rows = rows.cast({c: pl.String for c in self.columns if isinstance(schema[c], _CODED)})
        wanted = self._possible(rows.collect_schema())
        if wanted.is_empty():
            return None
        return rows.join(wanted.lazy(), on=list(self.columns), how="semi")

    def is_stated(self, text: str, /) -> bool:
        """Whether one of the values is a word of the text; short ones are by chance."""
        words = (rf"(?<!\w){re.escape(value)}(?!\w)" for value in self.telling)
        return any(re.search(word, text) for word in words)

    @property
    def telling(self) -> list[str]:
        """The values that are long enough to be looked for in texts."""
        values = {value for row in self.values for value in row}
        return sorted(value for value in values if len(value) >= _TELLING_CHARACTERS)

    def delete(self, handle: DeltaTable, schema: pl.Schema, /) -> None:
        """Match the keys as rows: a predicate's text would stand in the table's log."""
        wanted = self._possible(schema)
        match = tables.match_on(self.columns, wanted)
        handle.merge(
            wanted, match, source_alias="new", target_alias="old"
        ).when_matched_delete().execute()

    def parse_keys(self, schema: pl.Schema) -> pl.DataFrame:
        """The keys in the types of a table. Raises Refused for a value that is none of its type."""
        return self._frame([self._parse_row(row, schema) for row in self.values], schema)

    def _possible(self, schema: pl.Schema) -> pl.DataFrame:
        """The keys that the columns' types can hold, in these types; no row has another."""
        found: list[tuple[object, ...]] = []
        for row in self.values:
            with suppress(Refused):
                found.append(self._parse_row(row, schema))
        return self._frame(found, schema)

    def _frame(self, rows: list[tuple[object, ...]], schema: pl.Schema) -> pl.DataFrame:
        types = {column: schema[column] for column in self.columns}
        return pl.DataFrame(rows, schema=types, orient="row").unique()

    def _parse_row(self, row: tuple[str, ...], schema: pl.Schema) -> tuple[object, ...]:
        return tuple(
            _parse_value(text, schema[c], c) for c, text in zip(self.columns, row, strict=True)
        )


@dataclass(frozen=True, slots=True)
class ByAge:
    """Rows of one dataset, and of its quarantine, whose event time lies before a moment."""

    dataset: str
    event_time: str
    before: datetime
    tables: Sequence[str]

    def concerns(self, path: str, /) -> bool:
        """The dataset's own tables and batches."""
        folders = [f"{tables.path_of(name)}/" for name in self.tables]
        return path.startswith((*folders, f"landing/{self.dataset}/"))

    def can_search(self, schema: pl.Schema, /) -> bool:
        """Whether the event time is a time."""
        return isinstance(schema.get(self.event_time, pl.Datetime()), pl.Datetime)

    def of(self, rows: pl.LazyFrame) -> pl.LazyFrame | None:
        """The rows that are too old."""
        dtype = rows.collect_schema().get(self.event_time)
        if not isinstance(dtype, pl.Datetime):
            return None
        # A time that states no zone was written in UTC.
        utc = self.before.astimezone(UTC)
        moment = utc if dtype.time_zone else utc.replace(tzinfo=None)
        return rows.filter(pl.col(self.event_time) < pl.lit(moment).cast(dtype))

    def is_stated(self, _text: str, /) -> bool:
        """Never: a time is nobody's."""
        return False

    def delete(self, handle: DeltaTable, schema: pl.Schema, /) -> None:
        """By the bound itself: it is nobody's."""
        dtype = schema[self.event_time]
        zone = 'Some("UTC")' if isinstance(dtype, pl.Datetime) and dtype.time_zone else "None"
        moment = f"{self.before.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"
        # Delta keeps microseconds, and delta-rs compares no two units.
        bound = f"arrow_cast('{moment}', 'Timestamp(Microsecond, {zone})')"
        handle.delete(f"{tables.quoted(self.event_time)} < {bound}")


def _is_written_as_text(dtype: pl.DataType) -> bool:
    told = (pl.String, pl.Binary, pl.Datetime, pl.Date, pl.Boolean, pl.Null, *_CODED)
    return dtype.is_numeric() or isinstance(dtype, told)


def _parse_value(text: str, dtype: pl.DataType, column: str) -> object:
    try:
        return _parse_text(text, dtype)
    except (ValueError, KeyError, OverflowError, pl.exceptions.PolarsError) as error:
        raise Refused(
            f"{text!r} cannot be a value of {column}, which is {dtype}.",
            remedy=f"Write it as {column} holds it: `headrace data show` prints rows.",
        ) from error


def _parse_text(text: str, dtype: pl.DataType) -> object:
    if dtype == pl.String:
        return text
    if dtype == pl.Binary:
        return text.encode()
    if isinstance(dtype, pl.Datetime):
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment if dtype.time_zone else moment.astimezone(UTC).replace(tzinfo=None)
    if dtype == pl.Date:
        return date.fromisoformat(text)
    if dtype == pl.Boolean:
        return {"true": True, "false": False}[text.lower()]
    if not dtype.is_numeric():
        raise ValueError(f"no value of type {dtype} can be written as text")
    return pl.Series([text]).cast(dtype, strict=True).item()
