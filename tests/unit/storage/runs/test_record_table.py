import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from storage.runs.record_table import SCHEMA, is_record, path_of, to_frame
from storage.runs.records import Record, read_record

RUN = "1f" * 32
RECORD = Record(
    "ingest",
    RUN,
    "nonce",
    "2013-02-01T12:30:00+02:00",
    0.25,
    "cd" * 32,
    tables={"planes": 3},
    counts={"kept": 8},
    details={"dataset": "planes", "batch": "é"},
)


def test_a_record_is_a_row_with_typed_columns_and_its_own_text() -> None:
    frame = to_frame([RECORD.to_json()])
    assert frame.schema == SCHEMA
    (row,) = frame.rows(named=True)
    assert row["started_at"] == datetime(2013, 2, 1, 10, 30, tzinfo=UTC)
    assert (row["stage"], row["duration_s"], row["superseded_by"]) == ("ingest", 0.25, None)
    assert json.loads(row["counts"]) == {"kept": 8}
    assert json.loads(row["details"]) == {"dataset": "planes", "batch": "é"}
    assert read_record(RECORD.path, row["record"].encode()) == RECORD


def test_what_a_rollback_undid_says_by_which_and_whether_it_may_run_again() -> None:
    undone = RECORD.superseded_by("ab" * 32, may_run_again=True)
    (row,) = to_frame([undone.to_json()]).rows(named=True)
    assert (row["superseded_by"], row["may_run_again"]) == ("ab" * 32, True)


def test_a_field_of_a_later_version_comes_back_from_a_row() -> None:
    body = {**json.loads(RECORD.to_json()), "weather": "fine"}
    (row,) = to_frame([json.dumps(body).encode()]).rows(named=True)
    assert json.loads(read_record(RECORD.path, row["record"].encode()).to_json()) == body


@given(minutes=st.lists(st.integers(0, 59), max_size=5))
def test_rows_are_in_the_order_in_which_the_runs_started(minutes: list[int]) -> None:
    texts = [
        json.dumps(
            {**json.loads(RECORD.to_json()), "started_at": f"2013-02-01T12:{m:02}:00+00:00"}
        ).encode()
        for m in minutes
    ]
    assert [at.minute for at in to_frame(texts)["started_at"]] == sorted(minutes)


def test_the_tables_own_files_are_no_records() -> None:
    assert is_record(path_of("ingest", RUN))
    assert not is_record("metadata/runs/_delta_log/00000000000000000000.json")
    assert not is_record("metadata/runs/stage=ingest/part-0.parquet")
    assert not is_record(f"ledger/{RUN}.json")
