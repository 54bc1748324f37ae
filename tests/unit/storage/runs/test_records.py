"""A record in bytes: those of today, of yesterday, and of a version to come."""

import json
from typing import Any

import pytest

from storage.errors import StorageError
from storage.runs.records import Record, run_id

# As the first versions of Headrace wrote it: sorted keys, one line, every field.
STORED = (
    b'{"attempt": "6500000012345678", "base": "' + b"c" * 64 + b'", "code": {"lock": "x"}, '
    b'"counts": {"kept": 3}, "details": {"batch": "b-1"}, "duration_s": 1.5, "inputs": {}, '
    b'"metrics": {"log_loss": 0.25}, "orchestrator": {}, "run_id": "' + b"a" * 64 + b'", '
    b'"stage": "ingest", "started_at": "2026-01-01T00:00:00+00:00", "superseded": null, '
    b'"tables": {"flights": 4}}'
)


def body(**change: object) -> dict[str, Any]:
    return {**json.loads(STORED), **change}


def test_a_stored_record_keeps_its_bytes() -> None:
    assert Record.from_json(STORED).to_json() == STORED


def test_a_rollback_marks_the_record_and_changes_nothing_else() -> None:
    marked = Record.from_json(STORED).superseded_by("d" * 64, may_run_again=False)
    stored = json.loads(marked.to_json())
    assert stored == body(superseded={"by": "d" * 64, "may_run_again": False})
    assert Record.from_json(marked.to_json()) == marked


def test_fields_of_a_later_version_survive_a_rollback_s_mark() -> None:
    later = body(cost=3, superseded={"by": "e", "may_run_again": True, "why": "x"})
    record = Record.from_json(json.dumps(later).encode())
    assert json.loads(record.to_json()) == later
    marked = json.loads(record.superseded_by("f", may_run_again=True).to_json())
    assert marked == later | {"superseded": {"by": "f", "may_run_again": True}}


def test_a_missing_field_is_named() -> None:
    short = {name: value for name, value in body().items() if name != "attempt"}
    with pytest.raises(StorageError, match="The record p lacks the field 'attempt'") as caught:
        Record.from_json(json.dumps(short).encode(), "The record p")
    assert caught.value.code == "lake.record_incomplete"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", json.dumps(body(stage=3)).encode()])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        Record.from_json(data)
    assert caught.value.code == "lake.record_malformed"


def test_a_run_id_is_the_digest_of_stage_and_input() -> None:
    assert run_id("ingest", "x") == (
        "b55353507624cb594fd748a43d9241356c1eb15f8453b58cfabd1395b218d00c"
    )
    assert run_id("ingest", "x", "y") != run_id("ingest", "xy")
