from datetime import UTC, datetime
from io import BytesIO

import dataframely as dy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import ContractBroken
from flows.ingest.validate import ALL_NULL_ROWS, MAX_TEXT_BYTES, check_batch
from flows.pipeline import Dataset

NOW = datetime(2013, 1, 1, tzinfo=UTC)


class Reading(dy.Schema):
    sensor = dy.String(primary_key=True)
    at = dy.Datetime(time_unit="us", time_zone="UTC", primary_key=True)
    value = dy.Float64(nullable=True, min=0.0, max=100.0)
    level = dy.Int64(nullable=True, metadata={"may_be_all_null": True})
    note = dy.String(nullable=True, max_length=8, metadata={"may_be_all_null": True})

    @dy.rule()
    def level_below_value(cls) -> pl.Expr:  # noqa: N805
        return pl.col("level") <= pl.col("value")


SCHEMA = {
    "sensor": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "value": pl.Float64,
    "level": pl.Int64,
    "note": pl.String,
}


def dataset(**changes: object) -> Dataset:
    given = {"name": "readings", "contract": Reading, "event_time": "at", "max_quarantined": 1.0}
    return Dataset(**{**given, **changes})


def rows(*values: float | None, **columns: list) -> pl.DataFrame:
    n = len(values)
    given = {
        "sensor": [f"s{i}" for i in range(n)],
        "at": [NOW] * n,
        "value": list(values),
        "level": [None] * n,
        "note": [None] * n,
    }
    return pl.DataFrame({**given, **columns}, schema=SCHEMA)


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def check(frame: pl.DataFrame | bytes, existing: pl.LazyFrame | None = None, **changes: object):
    content = frame if isinstance(frame, bytes) else parquet(frame)
    return check_batch({"a.parquet": content}, dataset(**changes), batch="b1", existing=existing)


def refusal(frame: pl.DataFrame | bytes, **changes: object) -> ContractBroken:
    with pytest.raises(ContractBroken) as caught:
        check(frame, **changes)
    return caught.value


def test_good_rows_are_kept_as_they_came():
    frame = rows(1.0, None, 100.0)
    checked = check(frame)
    assert checked.kept.equals(frame)
    assert (checked.counts.delivered, checked.counts.kept) == (3, 3)
    assert checked.quarantined.is_empty()


def test_reordered_columns_are_accepted_by_name():
    frame = rows(1.0, 2.0)
    assert check(frame.select(reversed(frame.columns))).kept.equals(frame)


def test_a_file_on_disk_reads_like_its_bytes(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(rows(1.0, -1.0)))
    checked = check_batch({"a.parquet": path}, dataset(), batch="b1")
    assert checked.counts == check(rows(1.0, -1.0)).counts


def test_a_batch_without_rows_is_no_error_and_keeps_nothing():
    checked = check(rows())
    assert (checked.counts.delivered, checked.counts.kept) == (0, 0)
    assert dict(checked.kept.schema) == SCHEMA


def test_a_batch_without_files_is_no_error():
    assert check_batch({}, dataset(), batch="b1").counts.delivered == 0


def test_an_empty_file_is_refused():
    assert "0 bytes" in str(refusal(b""))


def test_a_half_written_file_is_refused_at_every_length():
    whole = parquet(rows(1.0, 2.0, 3.0))
    for length in range(1, len(whole), 61):
        error = refusal(whole[:length])
        assert (error.rule, "a.parquet" in str(error)) == ("readable", True)


def test_damage_inside_a_file_never_ends_in_another_error():
    whole = parquet(rows(*[float(i % 90) for i in range(300)]))
    outcomes = set()
    for place in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        try:
            check(bytes(damaged))
            outcomes.add("read")
        except ContractBroken as error:
            outcomes.add(error.rule)
    assert "readable" in outcomes


def test_text_that_is_no_parquet_is_refused():
    assert refusal(b"sensor,at,value\ns1,now,1\n").rule == "readable"


def test_a_missing_column_is_refused_by_name():
    error = refusal(rows(1.0).drop("value"))
    assert (error.rule, error.column) == ("column_missing", "value")


def test_an_extra_column_is_refused_by_name():
    error = refusal(rows(1.0).with_columns(colour=pl.lit("red")))
    assert (error.rule, error.column) == ("column_extra", "colour")


@pytest.mark.parametrize("other", [pl.String, pl.Float32, pl.Int64])
def test_another_type_is_refused_not_cast(other):
    error = refusal(rows(7.0).cast({"value": other}))
    assert (error.rule, error.column) == ("dtype", "value")
    assert "nothing is cast" in error.remedy


def test_times_without_a_zone_are_refused():
    error = refusal(rows(1.0).with_columns(pl.col("at").dt.replace_time_zone(None)))
    assert (error.rule, error.column) == ("time_zone", "at")


def test_times_in_another_zone_are_refused():
    moved = rows(1.0).with_columns(pl.col("at").dt.convert_time_zone("America/New_York"))
    assert refusal(moved).rule == "time_zone"


def test_two_files_that_differ_in_zone_are_refused():
    naive = rows(1.0).with_columns(pl.col("at").dt.replace_time_zone(None))
    files = {"a": parquet(rows(1.0)), "b": parquet(naive)}
    with pytest.raises(ContractBroken, match="b: at is"):
        check_batch(files, dataset(), batch="b1")


def test_a_column_without_one_value_is_refused():
    error = refusal(rows(*[None] * ALL_NULL_ROWS))
    assert (error.rule, error.column) == ("all_null", "value")


def test_a_few_nulls_are_chance():
    assert check(rows(*[None] * (ALL_NULL_ROWS - 1))).counts.kept == ALL_NULL_ROWS - 1


def test_more_rows_than_a_batch_may_hold_are_refused_before_they_are_read():
    error = refusal(rows(1.0, 2.0, 3.0), max_batch_rows=2)
    assert error.rule == "max_batch_rows"
    assert "3 rows, the limit is 2" in str(error)


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        (float("nan"), "value|nan"),
        (float("inf"), "value|inf"),
        (float("-inf"), "value|inf"),
        (-1.0, "value|min"),
        (101.0, "value|max"),
    ],
)
def test_an_impossible_value_is_quarantined_under_its_rule(value, rules):
    checked = check(rows(1.0, value))
    bad = checked.quarantined
    assert checked.kept["value"].to_list() == [1.0]
    assert rules in bad["_rule"].item().split(",")
    assert (bad["_column"].item(), bad["_batch"].item()) == ("value", "b1")
    assert checked.counts.rules[rules] == 1


def test_a_rule_over_several_columns_is_named_without_a_column():
    bad = check(rows(1.0, level=[5])).quarantined
    assert (bad["_rule"].item(), bad["_column"].item()) == ("level_below_value", "")


def test_a_row_names_all_the_rules_it_broke():
    bad = check(rows(-1.0, level=[5])).quarantined
    assert sorted(bad["_rule"].item().split(",")) == ["level_below_value", "value|min"]


def test_a_null_key_is_quarantined():
    bad = check(rows(1.0, sensor=[None])).quarantined
    assert (bad["_rule"].item(), bad["_column"].item()) == ("sensor|nullability", "sensor")


def test_giant_text_is_quarantined_with_its_limit_and_cut():
    bad = check(rows(1.0, 2.0, sensor=["x" * 5_000_000, "y"])).quarantined
    assert bad["_rule"].item() == f"sensor|max_bytes_{MAX_TEXT_BYTES}"
    assert bad["sensor"].item() == "x" * MAX_TEXT_BYTES


def test_the_limit_of_text_counts_bytes_and_comes_from_the_contract():
    checked = check(rows(1.0, 2.0, note=["éééé", "ééééé"]))
    assert checked.kept["note"].to_list() == ["éééé"]
    assert checked.quarantined["_rule"].item() == "note|max_bytes_8"


def test_any_unicode_survives_the_check():
    names = ["\x00", "a\x00b", "Ω≈ç", "\u202eabc", "e\u0301", "\u00e9", "👩‍✈️"]
    kept = check(rows(*[1.0] * len(names), sensor=names)).kept
    assert sorted(kept["sensor"]) == sorted(names)


def test_repeated_keys_keep_the_first_valid_row_and_are_counted():
    checked = check(rows(-1.0, 2.0, 3.0, sensor=["s", "s", "s"]))
    assert checked.kept["value"].to_list() == [2.0]
    assert (checked.duplicates, checked.counts.quarantined) == (1, 1)


def test_the_first_file_by_name_wins_whatever_order_they_come_in():
    files = {"2": parquet(rows(2.0)), "1": parquet(rows(1.0))}
    checked = check_batch(files, dataset(), batch="b1")
    assert (checked.kept["value"].to_list(), checked.duplicates) == ([1.0], 1)


def test_keys_that_the_dataset_has_are_dropped_and_counted():
    existing = rows(9.0, 9.0).lazy().select("sensor", "at", pl.lit(True).alias("more"))
    checked = check(rows(1.0, 2.0, 3.0), existing=existing)
    assert checked.kept["sensor"].to_list() == ["s2"]
    assert checked.duplicates == 2


def test_the_same_batch_again_adds_nothing():
    frame = rows(1.0, 2.0, -3.0)
    again = check(frame, existing=check(frame).kept.lazy())
    assert (again.counts.kept, again.counts.duplicates, again.counts.quarantined) == (0, 2, 1)


def test_too_many_broken_rows_refuse_the_batch_and_say_why():
    error = refusal(rows(1.0, -2.0, -3.0, 400.0), max_quarantined=0.5)
    assert (error.rule, error.column) == ("value|min", "value")
    assert "3 of 4 rows for readings break a rule, 2 of them value|min" in str(error)


def test_exactly_the_allowed_share_may_be_broken():
    assert check(rows(1.0, -2.0), max_quarantined=0.5).counts.quarantined == 1


def test_rows_come_out_in_time_order():
    later = NOW.replace(hour=5)
    kept = check(rows(1.0, 2.0, at=[later, NOW])).kept
    assert kept["value"].to_list() == [2.0, 1.0]


cells = st.tuples(
    st.sampled_from(["a", "b", None, "x" * 2000]),
    st.sampled_from([0.0, 50.0, -1.0, 101.0, float("nan"), float("inf"), None]),
    st.sampled_from([None, 0, 60]),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(cells, max_size=12), st.lists(st.sampled_from(["a", "b"]), unique=True))
def test_every_delivered_row_is_kept_quarantined_or_a_duplicate(batch, known):
    frame = rows(*[c[1] for c in batch], sensor=[c[0] for c in batch], level=[c[2] for c in batch])
    existing = rows(*[1.0] * len(known), sensor=known).lazy()
    checked = check(frame, existing=existing)
    counts = checked.counts
    assert counts.delivered == counts.kept + counts.quarantined + counts.duplicates == len(batch)
    assert (checked.kept.height, checked.quarantined.height) == (counts.kept, counts.quarantined)
    assert Reading.is_valid(checked.kept)
    assert not set(checked.kept["sensor"]) & set(known)
