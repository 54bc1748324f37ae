from datetime import UTC, date, datetime

import polars as pl
import pytest

from storage.errors import Refused
from storage.forgetting.selection import ByAge, ByKey


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (pl.String, "007", "007"),
        (pl.Int64, "007", 7),
        (pl.Int64, "-9007199254740993", -9007199254740993),
        (pl.Float64, "1.5", 1.5),
        (pl.Boolean, "True", True),
        (pl.Date, "2013-01-31", date(2013, 1, 31)),
        (pl.Datetime("us", "UTC"), "2013-01-31T10:00", datetime(2013, 1, 31, 10, tzinfo=UTC)),
        (pl.Datetime("us", "UTC"), "2013-01-31T10:00+02:00", datetime(2013, 1, 31, 8, tzinfo=UTC)),
        (pl.Datetime("us"), "2013-01-31T10:00+02:00", datetime(2013, 1, 31, 8)),
    ],
)
def test_a_value_is_read_in_its_columns_type(dtype: pl.DataType, text: str, value: object) -> None:
    found = ByKey(("k",), ((text,),)).parse_keys(pl.Schema({"k": dtype}))
    assert found["k"].to_list() == [value]


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (pl.Int64, "N1"),
        (pl.Int64, "1.5"),
        (pl.Int8, "1000"),
        (pl.Boolean, "perhaps"),
        (pl.Date, "yesterday"),
        (pl.Datetime("us", "UTC"), "noon"),
        (pl.List(pl.Int64), "[1]"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(dtype: pl.DataType, text: str) -> None:
    with pytest.raises(Refused, match=r"cannot be a value of a column, which is"):
        ByKey(("a column",), ((text,),)).parse_keys(pl.Schema({"a column": dtype}))


def test_rows_are_those_with_the_whole_key() -> None:
    rows = pl.LazyFrame({"a": ["x", "x", "y"], "b": [1, 2, 1]})
    found = ByKey(("a", "b"), (("x", "1"), ("y", "2"))).of(rows)
    assert found is not None
    assert found.collect().rows() == [("x", 1)]


def test_a_table_without_the_columns_or_with_another_type_has_no_such_row() -> None:
    wanted = ByKey(("id",), (("N1",),))
    assert wanted.of(pl.LazyFrame({"other": [1]})) is None
    assert wanted.of(pl.LazyFrame({"id": [1]})) is None


def test_rows_past_a_moment_are_found_in_any_unit_and_none_without_a_time() -> None:
    old = ByAge("d", "at", datetime(2013, 1, 2, tzinfo=UTC), ("d",))
    times = pl.Series([datetime(2013, 1, 1), datetime(2013, 1, 3)])
    for unit in ("ms", "us", "ns"):
        rows = pl.LazyFrame({"at": times.cast(pl.Datetime(unit)).dt.replace_time_zone("UTC")})
        found = old.of(rows)
        assert found is not None
        assert found.collect().height == 1
    assert old.of(pl.LazyFrame({"at": [1]})) is None
    assert (old.concerns("tables/d/x.parquet"), old.concerns("tables/dd/x.parquet")) == (
        True,
        False,
    )
