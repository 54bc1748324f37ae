"""Frozen dataclasses to JSON and back: what is kept, what is refused, and how that is said."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StorageError
from storage.runs.codec import CANONICAL, PLAIN, Codec


@dataclass(frozen=True)
class Inner:
    name: str
    share: float


@dataclass(frozen=True)
class Exact:
    kind: Literal["a", "b"]
    inner: tuple[Inner, ...]
    seen: Mapping[str, int]
    at: datetime
    day: date
    flag: bool
    note: str | None = None


@dataclass(frozen=True)
class Open:
    name: str
    note: str | None = None
    null: str | None = field(kw_only=True)
    free: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, Any] = field(default_factory=dict)


moments = st.datetimes(timezones=st.just(UTC))
floats = st.floats(allow_nan=False)
exacts = st.builds(
    Exact,
    kind=st.sampled_from(["a", "b"]),
    inner=st.lists(st.builds(Inner, name=st.text(), share=floats)).map(tuple),
    seen=st.dictionaries(st.text(), st.integers()),
    at=moments,
    day=st.dates(),
    flag=st.booleans(),
    note=st.none() | st.text(),
)
EXACT = {
    "kind": "a",
    "inner": [],
    "seen": {},
    "at": "2026-01-01T00:00:00Z",
    "day": "2026-01-01",
    "flag": True,
    "note": None,
}


@given(exacts, st.sampled_from([PLAIN, CANONICAL]))
def test_what_is_written_reads_back_equal(record: Exact, codec: Codec) -> None:
    assert codec.from_plain(Exact, codec.to_plain(record), "It") == record


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.lists(st.text())))
def test_fields_of_a_later_version_come_back_as_they_were(unknown: dict[str, Any]) -> None:
    body = {**unknown, "name": "n", "null": None, "free": {}}
    body.pop("note", None)
    assert PLAIN.to_plain(PLAIN.from_plain(Open, body, "It")) == body


def test_even_a_field_called_later_is_kept() -> None:
    body = {"name": "n", "null": None, "free": {}, "later": 3}
    assert PLAIN.to_plain(PLAIN.from_plain(Open, body, "It")) == body


def test_canonical_text_of_numbers_and_times() -> None:
    noon = datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    assert CANONICAL.to_plain({"x": 0.1, "at": noon}) == {"x": "0.1", "at": "2026-01-01T12:00:00Z"}
    assert PLAIN.to_plain({"x": 0.1, "at": noon}) == {"x": 0.1, "at": "2026-01-01T13:00:00+01:00"}


def test_canonical_records_hold_no_nan() -> None:
    with pytest.raises(StorageError, match="NaN"):
        CANONICAL.to_plain(Inner("n", math.nan))
    with pytest.raises(StorageError) as caught:
        CANONICAL.from_plain(Inner, {"name": "n", "share": "nan"}, "It")
    assert caught.value.code == "lake.record_malformed"


def test_a_null_is_left_out_only_where_null_is_the_default() -> None:
    assert PLAIN.to_plain(Open("n", null=None)) == {"name": "n", "null": None, "free": {}}


def test_a_missing_field_says_which_record_and_which_field() -> None:
    with pytest.raises(StorageError, match="The record x lacks the field 'null'") as caught:
        PLAIN.from_plain(Open, {"name": "n"}, "The record x")
    assert caught.value.code == "lake.record_incomplete"
    assert caught.value.remedy


@pytest.mark.parametrize("gone", sorted(EXACT))
def test_an_exact_class_wants_all_its_fields(gone: str) -> None:
    body = {name: value for name, value in EXACT.items() if name != gone}
    with pytest.raises(StorageError) as caught:
        PLAIN.from_plain(Exact, body, "It")
    assert caught.value.code == "lake.record_incomplete"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "c"},
        {"inner": {}},
        {"inner": [{"name": "n", "share": "text"}]},
        {"inner": [{"name": "n", "share": True}]},
        {"seen": {"x": True}},
        {"seen": []},
        {"at": "yesterday"},
        {"day": 3},
        {"flag": 1},
        {"note": 3},
        {"other": 1},
    ],
)
def test_a_wrong_type_is_refused_by_the_field_s_name(change: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match=next(iter(change))) as caught:
        PLAIN.from_plain(Exact, EXACT | change, "It")
    assert caught.value.code == "lake.record_malformed"


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(StorageError):
        PLAIN.from_plain(Exact, ["a"], "It")
