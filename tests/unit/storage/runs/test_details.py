"""What a stage's record says, read and written by the stage's own class."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from storage.errors import StorageError
from storage.runs.details import Details
from storage.runs.records import Record


@dataclass(frozen=True, kw_only=True)
class BakeDetails(Details):
    loaf: str
    weights: Mapping[str, int]
    oven: str | None = None


def record(**details: object) -> Record:
    return Record(
        stage="bake",
        run_id="a" * 64,
        attempt="b",
        started_at="2026-01-01T00:00:00+00:00",
        duration_s=1.0,
        base="c" * 64,
        details=details,
    )


def test_details_come_back_as_they_were_written() -> None:
    said = BakeDetails(loaf="rye", weights={"crust": 3})
    assert said.to_json() == {"loaf": "rye", "weights": {"crust": 3}}
    assert BakeDetails.of(record(**said.to_json())) == said


def test_what_a_later_version_said_is_kept() -> None:
    said = BakeDetails.of(record(loaf="rye", weights={}, baker="Ann"))
    assert said.later == {"baker": "Ann"}
    assert said.to_json() == {"loaf": "rye", "weights": {}, "baker": "Ann"}


def test_a_missing_field_names_the_record() -> None:
    with pytest.raises(StorageError, match=r"metadata/bake/a+\.json lacks the field 'loaf'"):
        BakeDetails.of(record(weights={}))
