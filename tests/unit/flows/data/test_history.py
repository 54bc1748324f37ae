from dataclasses import replace

from flows.data.history import RowChange, fate, note, row_changes
from storage.runs.records import Record

PIN = "flights@" + "ab" * 32
INGEST = Record(
    "ingest",
    "1f" * 32,
    "nonce-1",
    "2013-02-01T00:00:00+00:00",
    0.1,
    "cd" * 32,
    tables={"planes": 0, "quarantine/planes": 0},
    counts={"delivered": 10, "kept": 8, "quarantined": 1, "duplicates": 1},
    details={"dataset": "planes", "batch": "2013-01", "digest": "ab", "rules": {"seats|min": 1}},
)
MERGED = {"source": PIN, "branch": "mine", "records": 0}


def test_ingest_adds_what_it_kept_and_what_it_quarantined() -> None:
    assert row_changes(INGEST) == (RowChange("planes", 8), RowChange("quarantine/planes", 1))


def test_a_batch_of_duplicates_changes_no_row() -> None:
    counts = {"delivered": 3, "kept": 0, "quarantined": 0, "duplicates": 3}
    assert row_changes(replace(INGEST, counts=counts)) == ()


def test_a_merge_says_what_it_did_to_each_table() -> None:
    counts = {"planes:added": 1, "planes:changed": 2, "planes:removed": 3}
    record = replace(INGEST, stage="merge", counts=counts, details=MERGED)
    assert row_changes(record) == (RowChange("planes", 1, 3, 2),)
    assert note(record) == "branch mine"


def test_a_rollback_shrinks_one_table_and_grows_another() -> None:
    counts = {"a:before": 5, "a:after": 2, "b:before": 1, "b:after": 4}
    details = {
        "reason": "bad",
        "actor": "ana",
        "datasets": ["a", "b"],
        "supersedes": ["ingest/1"],
        "may_run_again": False,
    }
    record = replace(INGEST, stage="rollback", counts=counts, details=details, inputs={"to": PIN})
    assert row_changes(record) == (RowChange("a", 0, 3), RowChange("b", 3, 0))
    assert note(record) == f"to {'ab' * 6}, 1 runs undone: bad"


def test_a_table_that_an_unknown_stage_wrote_has_no_made_up_counts() -> None:
    record = replace(INGEST, stage="compact", tables={"history": 3}, counts={"kept": 5})
    assert row_changes(record) == (RowChange("history", None, None, None),)


def test_a_run_stands_until_a_rollback_undoes_it() -> None:
    undone = INGEST.superseded_by("ef" * 32, may_run_again=True)
    assert fate(INGEST, INGEST) == ""
    assert fate(INGEST, undone) == "undone by efefefefefef, may run again"
    assert fate(INGEST, replace(INGEST, attempt="nonce-2")) == "undone, and ran again since"
    assert fate(INGEST, None) == "not on this branch any more"
