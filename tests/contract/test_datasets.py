"""Rollback, comparison and merge of datasets, against the embedded lakeFS and a real one."""

import threading
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from storage import tables
from storage.errors import Conflict, Damaged, Refused
from storage.lake import Lake, Pin
from storage.landing import batches, deliver, read, refuse, take_stock
from storage.runs import Job, Outcome, Run, commit_once, records
from storage.tables.compare import changes, compare
from storage.versions.merge_by_key import Applied, merge_branch
from storage.versions.rollback import Request, roll_back


def add(lake: Lake, repo: str, *keys: int, on: str = "main") -> Outcome:
    frame = pl.DataFrame({"key": keys, "text": ["as delivered"] * len(keys)})
    return commit_once(
        lake,
        Job(repo, "ingest", records.run_id("ingest", str(keys)), on=on),
        lambda run: run.append("numbers", frame),
    )


def rows(lake: Lake, repo: str, ref: str = "main") -> dict[int, str]:
    frame = tables.scan(lake, lake.pin(repo, ref), "numbers").collect()
    return dict(sorted(frame.select("key", "text").iter_rows()))


def request(to: Pin, **options: bool) -> Request:
    return Request("request-1", ("numbers",), to, "a bad batch", "a person", **options)


def edit(lake: Lake, repo: str, branch: str, key: int, text: str) -> None:
    table = tables.open_table(lake, repo, branch, "numbers")
    table.update(predicate=f"key = {key}", updates={"text": f"'{text}'"})
    lake.fs.commit(repo, branch, message="an edit", metadata={})


def test_rollback_brings_back_rows_and_files_and_history_grows(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1, 2).pin
    add(lake, repo, 3)
    add(lake, repo, 4)
    before = [c.id for c in lake.fs.log(repo, "main")]
    outcome = roll_back(lake, request(good))
    then = tables.snapshot(lake, repo, good.commit, "numbers")
    now = tables.snapshot(lake, repo, "main", "numbers")
    assert rows(lake, repo) == {1: "as delivered", 2: "as delivered"}
    assert now.files == then.files
    assert now.version == 3
    assert [c.id for c in lake.fs.log(repo, "main")][1:] == before
    assert len(outcome.record.details["supersedes"]) == 2


def test_rollback_brings_back_vacuumed_files(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin

    def rewrite_and_vacuum(run: Run) -> None:
        table = tables.open_table(lake, repo, run.branch, "numbers")
        table.delete("key = 1")
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        run.tables["numbers"] = table.version()

    commit_once(lake, Job(repo, "vacuum", "a" * 64), rewrite_and_vacuum)
    assert rows(lake, repo) == {}
    roll_back(lake, request(good))
    assert rows(lake, repo) == {1: "as delivered"}


def test_an_undone_run_stays_undone_unless_it_may_run_again(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    roll_back(lake, request(good))
    with pytest.raises(Refused, match="undone by rollback"):
        add(lake, repo, 2)
    assert rows(lake, repo) == {1: "as delivered"}


def test_a_run_that_may_run_again_lands_again(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    roll_back(lake, request(good, may_run_again=True))
    assert not add(lake, repo, 2).already
    assert set(rows(lake, repo)) == {1, 2}


def test_a_repeated_request_rolls_back_once(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    roll_back(lake, request(good))
    assert roll_back(lake, request(good)).already


def test_an_ingest_under_way_replays_after_a_rollback(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    attempts = []

    def body(run: Run) -> None:
        attempts.append(run.base.commit)
        run.append("numbers", pl.DataFrame({"key": [5], "text": ["late"]}))
        if len(attempts) == 1:
            thread = threading.Thread(target=roll_back, args=(lake, request(good)))
            thread.start()
            thread.join()

    commit_once(lake, Job(repo, "ingest", "b" * 64), body)
    assert len(attempts) == 2
    assert rows(lake, repo) == {1: "as delivered", 5: "late"}


def test_a_table_that_did_not_exist_then_is_emptied(lake: Lake, repo: str) -> None:
    empty = lake.pin(repo)
    add(lake, repo, 1)
    roll_back(lake, request(empty, may_run_again=True))
    assert rows(lake, repo) == {}
    add(lake, repo, 1)
    assert set(rows(lake, repo)) == {1}


def test_a_run_undone_for_good_may_be_let_again_by_a_later_rollback(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    roll_back(lake, request(good))
    roll_back(lake, replace(request(good, may_run_again=True), id="request-2"))
    add(lake, repo, 2)
    assert set(rows(lake, repo)) == {1, 2}


def test_a_later_rollback_can_forbid_what_an_earlier_one_allowed(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)
    roll_back(lake, request(good, may_run_again=True))
    roll_back(lake, replace(request(good), id="request-2"))
    with pytest.raises(Refused, match="undone by rollback"):
        add(lake, repo, 2)


def test_a_run_that_kept_nothing_goes_with_the_rows_it_repeated(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    add(lake, repo, 2)

    def all_duplicates(run: Run) -> None:
        run.details["dataset"] = "numbers"
        run.touch("numbers")

    commit_once(lake, Job(repo, "ingest", "d" * 64), all_duplicates)
    outcome = roll_back(lake, request(good, may_run_again=True))
    assert "ingest/" + "d" * 64 in outcome.record.details["supersedes"]
    assert not commit_once(lake, Job(repo, "ingest", "d" * 64), all_duplicates).already


def test_a_column_of_another_type_is_a_schema_change(lake: Lake, repo: str) -> None:
    left = add(lake, repo, 1).pin
    lake.fs.create_branch(repo, "retyped", source="main")
    retyped = pl.DataFrame({"key": [1], "text": [7]})
    tables.open_table(lake, repo, "retyped", "numbers")
    write_deltalake(
        f"s3://{repo}/retyped/tables/numbers",
        retyped,
        mode="overwrite",
        schema_mode="overwrite",
        storage_options=lake.storage_options,
    )
    lake.fs.commit(repo, "retyped", message="retyped", metadata={})
    found = changes(lake, left, lake.pin(repo, "retyped"), "numbers", key=["key"])
    assert found.schema == ("text: String -> Int64",)
    with pytest.raises(Refused, match="changed its schema"):
        merge_branch(lake, repo, "retyped", keys={"numbers": ("key",)})


def test_rollback_to_another_branchs_commit_is_refused(lake: Lake, repo: str) -> None:
    add(lake, repo, 1)
    lake.fs.create_branch(repo, "other", source="main")
    elsewhere = add(lake, repo, 9, on="other").pin
    add(lake, repo, 2)
    with pytest.raises(Refused, match="not an earlier version"):
        roll_back(lake, request(elsewhere))
    assert set(rows(lake, repo)) == {1, 2}


def test_changes_name_the_keys_that_differ(lake: Lake, repo: str) -> None:
    left = add(lake, repo, 1, 2).pin
    lake.fs.create_branch(repo, "edits", source="main")
    edit(lake, repo, "edits", 1, "corrected")
    table = tables.open_table(lake, repo, "edits", "numbers")
    table.delete("key = 2")
    lake.fs.commit(repo, "edits", message="one less", metadata={})
    right = add(lake, repo, 3, on="edits").pin
    found = changes(lake, left, right, "numbers", key=["key"])
    assert found.added["key"].to_list() == [3]
    assert found.changed.rows() == [(1, "corrected")]
    assert found.removed["key"].to_list() == [2]
    assert not changes(lake, left, left, "numbers", key=["key"])


def test_a_branch_that_appended_merges_beside_mains_own_appends(lake: Lake, repo: str) -> None:
    add(lake, repo, 1)
    lake.fs.create_branch(repo, "idea", source="main")
    add(lake, repo, 2, on="idea")
    add(lake, repo, 3)
    outcome = merge_branch(lake, repo, "idea", keys={"numbers": ("key",)})
    assert set(rows(lake, repo)) == {1, 2, 3}
    assert outcome.record.counts["numbers:added"] == 1
    assert outcome.record.details["records"] == 1


def test_edits_and_deletes_on_a_branch_merge_by_key(lake: Lake, repo: str) -> None:
    add(lake, repo, 1, 2, 3)
    lake.fs.create_branch(repo, "edits", source="main")
    edit(lake, repo, "edits", 1, "corrected")
    tables.open_table(lake, repo, "edits", "numbers").delete("key = 2")
    lake.fs.commit(repo, "edits", message="one less", metadata={})
    add(lake, repo, 4)
    merge_branch(lake, repo, "edits", keys={"numbers": ("key",)})
    assert rows(lake, repo) == {1: "corrected", 3: "as delivered", 4: "as delivered"}


def test_keys_changed_on_both_sides_are_listed_and_refused(lake: Lake, repo: str) -> None:
    add(lake, repo, 1, 2)
    for branch in ("mine", "yours"):
        lake.fs.create_branch(repo, branch, source="main")
        edit(lake, repo, branch, 1, branch)
    merge_branch(lake, repo, "mine", keys={"numbers": ("key",)})
    before = lake.fs.head(repo, "main")
    with pytest.raises(Refused, match=r"1 keys of numbers changed on both sides: \(1,\)"):
        merge_branch(lake, repo, "yours", keys={"numbers": ("key",)})
    assert lake.fs.head(repo, "main") == before


def merge(lake: Lake, repo: str, branch: str, **options: Any) -> Outcome:
    return merge_branch(lake, repo, branch, keys={"numbers": ("key",)}, **options)


def test_one_head_of_a_branch_merges_once(lake: Lake, repo: str) -> None:
    add(lake, repo, 1)
    lake.fs.create_branch(repo, "idea", source="main")
    add(lake, repo, 2, on="idea")
    merge(lake, repo, "idea")
    assert merge(lake, repo, "idea").already


def test_a_branch_merges_again_what_changed_on_it_since(lake: Lake, repo: str) -> None:
    add(lake, repo, 1, 2)
    lake.fs.create_branch(repo, "idea", source="main")
    edit(lake, repo, "idea", 1, "first")
    merge(lake, repo, "idea")
    add(lake, repo, 3)
    edit(lake, repo, "idea", 1, "second")
    add(lake, repo, 4, on="idea")
    outcome = merge(lake, repo, "idea")
    assert {n: outcome.record.counts[f"numbers:{n}"] for n in ("added", "changed", "removed")} == {
        "added": 1,
        "changed": 1,
        "removed": 0,
    }
    assert rows(lake, repo) == {
        1: "second",
        2: "as delivered",
        3: "as delivered",
        4: "as delivered",
    }


def test_a_second_merge_still_sees_what_the_target_changed_before_the_first(
    lake: Lake, repo: str
) -> None:
    add(lake, repo, 1, 2)
    lake.fs.create_branch(repo, "mine", source="main")
    lake.fs.create_branch(repo, "yours", source="main")
    edit(lake, repo, "yours", 2, "yours")
    merge(lake, repo, "yours")
    edit(lake, repo, "mine", 1, "mine")
    merge(lake, repo, "mine")
    edit(lake, repo, "mine", 2, "mine")
    with pytest.raises(Refused, match=r"1 keys of numbers changed on both sides: \(2,\)"):
        merge(lake, repo, "mine")
    assert rows(lake, repo) == {1: "mine", 2: "yours"}


def test_the_same_edit_on_both_sides_is_no_conflict(lake: Lake, repo: str) -> None:
    add(lake, repo, 1, 2)
    for branch in ("mine", "yours"):
        lake.fs.create_branch(repo, branch, source="main")
        edit(lake, repo, branch, 1, "agreed")
    edit(lake, repo, "yours", 2, "yours")
    merge(lake, repo, "mine")
    assert merge(lake, repo, "yours").record.counts["numbers:changed"] == 1
    assert rows(lake, repo) == {1: "agreed", 2: "yours"}


def test_a_merge_that_was_undone_for_good_is_not_brought_back_by_a_later_one(
    lake: Lake, repo: str
) -> None:
    good = add(lake, repo, 1).pin
    lake.fs.create_branch(repo, "idea", source="main")
    edit(lake, repo, "idea", 1, "wrong")
    merge(lake, repo, "idea")
    roll_back(lake, request(good))
    add(lake, repo, 2, on="idea")
    with pytest.raises(Refused, match="undid that for good"):
        merge(lake, repo, "idea")
    assert rows(lake, repo) == {1: "as delivered"}


def test_a_merge_that_was_undone_and_may_run_again_is_applied_whole(lake: Lake, repo: str) -> None:
    good = add(lake, repo, 1).pin
    lake.fs.create_branch(repo, "idea", source="main")
    edit(lake, repo, "idea", 1, "right")
    merge(lake, repo, "idea")
    roll_back(lake, request(good, may_run_again=True))
    add(lake, repo, 2, on="idea")
    merge(lake, repo, "idea")
    assert rows(lake, repo) == {1: "right", 2: "as delivered"}


def test_a_branch_made_anew_under_a_merged_ones_name_has_a_history_of_its_own(
    lake: Lake, repo: str
) -> None:
    add(lake, repo, 1)
    lake.fs.create_branch(repo, "idea", source="main")
    add(lake, repo, 2, on="idea")
    merge(lake, repo, "idea")
    lake.fs.delete_branch(repo, "idea")
    lake.fs.create_branch(repo, "idea", source="main")
    edit(lake, repo, "idea", 2, "corrected")
    merge(lake, repo, "idea")
    assert rows(lake, repo) == {1: "as delivered", 2: "corrected"}


def test_a_table_that_only_the_branch_has_is_made_by_the_merge(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "idea", source="main")
    add(lake, repo, 1, 2, on="idea")
    edit(lake, repo, "idea", 1, "corrected")
    merge(lake, repo, "idea")
    assert rows(lake, repo) == {1: "corrected", 2: "as delivered"}


def test_what_the_check_refuses_leaves_the_target_as_it_was(lake: Lake, repo: str) -> None:
    add(lake, repo, 1)
    lake.fs.create_branch(repo, "idea", source="main")
    add(lake, repo, 2, on="idea")
    before, seen = lake.fs.head(repo, "main"), []

    def check(applied: Applied, is_last: bool) -> None:
        seen.append((applied.rows["key"].to_list(), applied.result().collect().height, is_last))
        raise Refused("a rule is broken")

    with pytest.raises(Refused, match="a rule is broken"):
        merge(lake, repo, "idea", check=check)
    assert seen == [([2], 2, True)]
    assert lake.fs.head(repo, "main") == before
    assert not lake.fs.branches(repo, prefix="run-", hidden=True)


NAN = float("nan")


@pytest.mark.parametrize("part_rows", [1_000_000, 2])
def test_null_and_nan_are_keys_as_any_other(
    lake: Lake, repo: str, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr("storage.tables.compare.PART_ROWS", part_rows)
    monkeypatch.setattr("storage.versions.merge_by_key.PART_ROWS", part_rows)
    odd = 'a "b". c'
    frame = pl.DataFrame({odd: [1.0, NAN, None, 4.0], "v": [1, 2, 3, 4]})

    def write(branch: str, rows: pl.DataFrame, **options: Any) -> None:
        address = f"s3://{repo}/{branch}/tables/odd"
        write_deltalake(address, rows, storage_options=lake.storage_options, **options)
        lake.fs.commit(repo, branch, message="by hand", metadata={})

    lake.fs.create_branch(repo, "first", source="main")
    write("first", frame)
    keys = {"odd": (odd,)}
    merge_branch(lake, repo, "first", keys=keys)
    lake.fs.create_branch(repo, "edits", source="main")
    edited = pl.DataFrame({odd: [1.0, NAN, 5.0], "v": [1, 20, 5]})
    write("edits", edited, mode="overwrite")
    counts = merge_branch(lake, repo, "edits", keys=keys).record.counts
    assert counts == {"odd:added": 1, "odd:changed": 1, "odd:removed": 2}
    now = tables.scan(lake, lake.pin(repo), "odd").collect().sort("v")
    assert now.equals(edited.sort("v"))


def test_a_key_that_repeats_on_the_branch_names_no_row_to_change(lake: Lake, repo: str) -> None:
    add(lake, repo, 1, 2)
    lake.fs.create_branch(repo, "idea", source="main")
    edit(lake, repo, "idea", 1, "corrected")
    twice = pl.DataFrame({"key": [1], "text": ["or so"]})
    tables.append(lake, repo, "idea", "numbers", twice)
    lake.fs.commit(repo, "idea", message="again", metadata={})
    with pytest.raises(Refused, match="stand more than once on the branch"):
        merge(lake, repo, "idea")
    assert rows(lake, repo) == {1: "as delivered", 2: "as delivered"}


@pytest.mark.parametrize("part_rows", [1_000_000, 3])
def test_rows_taken_in_parts_are_the_rows_taken_at_once(
    lake: Lake, repo: str, monkeypatch: pytest.MonkeyPatch, part_rows: int
) -> None:
    monkeypatch.setattr("storage.tables.compare.PART_ROWS", part_rows)
    monkeypatch.setattr("storage.versions.merge_by_key.PART_ROWS", part_rows)
    left = add(lake, repo, *range(10)).pin
    lake.fs.create_branch(repo, "edits", source="main")
    for key in (3, 7):
        edit(lake, repo, "edits", key, "corrected")
    add(lake, repo, *range(10, 15), on="edits")
    found = compare(lake, left, lake.pin(repo, "edits"), "numbers", key=["key"])
    assert (found.parts > 1) == (part_rows == 3)
    parts = list(found)
    assert sorted(k for part in parts for k in part.added["key"]) == list(range(10, 15))
    assert sorted(k for part in parts for k in part.changed["key"]) == [3, 7]
    assert not [k for part in parts for k in part.removed["key"]]


def test_a_branch_with_uncommitted_changes_is_refused(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "dirty", source="main")
    lake.fs.put(repo, "dirty", "stray", b"1")
    with pytest.raises(Refused, match="uncommitted"):
        merge_branch(lake, repo, "dirty", keys={})


def test_a_batch_is_seen_once_it_is_sealed(lake: Lake, repo: str) -> None:
    lake.fs.put(repo, "landing", "landing/numbers/open/part.parquet", b"123")
    deliver(lake, repo, "numbers", "2013-01", {"part.parquet": b"1234"})
    (batch,) = batches(lake, take_stock(lake, repo))
    assert batch.id == "2013-01"
    assert read(lake, batch) == {"part.parquet": b"1234"}


def test_a_sealed_batch_cannot_be_delivered_again(lake: Lake, repo: str) -> None:
    deliver(lake, repo, "numbers", "2013-01", {"part.parquet": b"1234"})
    with pytest.raises(Conflict, match="delivered before"):
        deliver(lake, repo, "numbers", "2013-01", {"part.parquet": b"5678"})


def test_an_interrupted_delivery_is_finished_with_the_same_bytes_only(
    lake: Lake, repo: str
) -> None:
    lake.fs.put(repo, "landing", "landing/numbers/b/part.parquet", b"1234")
    with pytest.raises(Conflict, match="other bytes"):
        deliver(lake, repo, "numbers", "b", {"part.parquet": b"5678"})
    deliver(lake, repo, "numbers", "b", {"part.parquet": b"1234"})
    (batch,) = batches(lake, take_stock(lake, repo))
    assert read(lake, batch) == {"part.parquet": b"1234"}


def test_a_seal_that_cannot_be_read_harms_its_own_batch_only(lake: Lake, repo: str) -> None:
    lake.fs.put(repo, "landing", "landing/numbers/torn/_READY", b"")
    missing = b'{"files": [{"name": "gone", "size": 1, "sha256": "0"}]}'
    lake.fs.put(repo, "landing", "landing/numbers/gone/_READY", missing)
    deliver(lake, repo, "numbers", "good", {"part.parquet": b"1234"})
    found = {b.id: b for b in batches(lake, take_stock(lake, repo))}
    assert read(lake, found["good"]) == {"part.parquet": b"1234"}
    for broken in ("torn", "gone"):
        with pytest.raises(Damaged, match=broken):
            read(lake, found[broken])


def test_the_same_files_under_another_id_are_the_same_content(lake: Lake, repo: str) -> None:
    for name in ("once", "twice"):
        deliver(lake, repo, "numbers", name, {"part.parquet": b"1234"})
    first, second = batches(lake, take_stock(lake, repo))
    assert first.digest == second.digest


def test_bytes_that_are_not_those_sealed_are_damaged(lake: Lake, repo: str) -> None:
    deliver(lake, repo, "numbers", "b", {"part.parquet": b"1234"})
    lake.fs.put(repo, "landing", "landing/numbers/b/part.parquet", b"1235")
    (batch,) = batches(lake, take_stock(lake, repo))
    with pytest.raises(Damaged, match=r"part\.parquet"):
        read(lake, batch)


def test_a_refused_batch_says_why_and_main_is_untouched(lake: Lake, repo: str) -> None:
    before = lake.fs.head(repo, "main")
    deliver(lake, repo, "numbers", "b", {"part.parquet": b""})
    (batch,) = batches(lake, take_stock(lake, repo))
    refuse(lake, batch, {"rule": "empty file"})
    refuse(lake, batch, {"rule": "empty file"})
    (again,) = batches(lake, take_stock(lake, repo))
    assert again.refused == {"rule": "empty file"}
    assert lake.fs.head(repo, "main") == before


def test_names_that_could_leave_the_folder_are_refused(lake: Lake, repo: str) -> None:
    for name in ("../x", "a/b", "", ".hidden", "a\0b"):
        with pytest.raises(Refused, match="plain name"):
            deliver(lake, repo, "numbers", name, {"part.parquet": b"1"})
