"""The run transaction, against the embedded lakeFS and a real one."""

import threading
from collections.abc import Callable

import polars as pl
import pytest

from storage import tables
from storage.errors import Conflict, NotFound, Refused, StorageError, Unavailable
from storage.lake import Lake, Pin
from storage.lake.client import Access
from storage.runs import Job, Outcome, Run, commit_once, records


def row(key: int) -> Callable[[Run], None]:
    def body(run: Run) -> None:
        run.append("numbers", pl.DataFrame({"key": [key]}))
        run.counts["rows"] = 1

    return body


def ingest(lake: Lake, repo: str, key: int, **options: str) -> Outcome:
    job = Job(repo, "ingest", records.run_id("ingest", str(key)), **options)
    return commit_once(lake, job, row(key))


def keys(lake: Lake, repo: str, ref: str = "main") -> list[int]:
    frame = tables.scan(lake, lake.pin(repo, ref), "numbers").collect()
    return sorted(frame["key"].to_list())


def test_a_run_lands_with_its_record_in_one_merge(lake: Lake, repo: str) -> None:
    before = lake.pin(repo)
    outcome = ingest(lake, repo, 1)
    log = list(lake.fs.log(repo, "main"))
    assert log[0].id == outcome.pin.commit
    assert log[1].id == before.commit
    assert log[0].metadata["run_id"] == outcome.record.run_id
    assert records.at(lake, outcome.pin) == [outcome.record]
    assert keys(lake, repo) == [1]


def test_a_second_start_is_a_no_op_that_names_the_first(lake: Lake, repo: str) -> None:
    first = ingest(lake, repo, 1)
    second = ingest(lake, repo, 1)
    assert (first.already, second.already) == (False, True)
    assert second.record == first.record
    assert keys(lake, repo) == [1]


def test_a_failing_body_leaves_main_and_no_branch(lake: Lake, repo: str) -> None:
    before = lake.fs.head(repo, "main")

    def body(run: Run) -> None:
        run.append("numbers", pl.DataFrame({"key": [1]}))
        raise RuntimeError("the work failed")

    with pytest.raises(RuntimeError, match="the work failed"):
        commit_once(lake, Job(repo, "ingest", "f" * 64), body)
    assert lake.fs.head(repo, "main") == before
    assert set(lake.fs.branches(repo, hidden=True)) == {"main", "landing"}


def test_eight_writers_to_one_table_all_land_once(lake: Lake, repo: str) -> None:
    ingest(lake, repo, 0)
    failures: list[BaseException] = []

    def work(key: int) -> None:
        try:
            ingest(lake, repo, key)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert keys(lake, repo) == list(range(9))
    assert len(records.at(lake, lake.pin(repo))) == 9


def test_a_replay_redoes_the_body_on_the_new_head(lake: Lake, repo: str) -> None:
    bases: list[str] = []

    def body(run: Run) -> None:
        bases.append(run.base.commit)
        if len(bases) == 1:
            ingest(lake, repo, 1)
        row(2)(run)

    ingest(lake, repo, 0)
    commit_once(lake, Job(repo, "ingest", "a" * 64), body)
    assert len(bases) == len(set(bases)) == 2
    assert keys(lake, repo) == [0, 1, 2]


def test_an_attempt_that_wakes_up_late_is_fenced(lake: Lake, repo: str) -> None:
    def late(run: Run) -> None:
        row(1)(run)
        assert not ingest(lake, repo, 1).already

    with pytest.raises(StorageError):
        commit_once(lake, Job(repo, "ingest", records.run_id("ingest", "1")), late)
    assert keys(lake, repo) == [1]
    assert len(records.at(lake, lake.pin(repo))) == 1


def test_an_attempt_that_is_fenced_while_it_writes_says_so(lake: Lake, repo: str) -> None:
    ingest(lake, repo, 1)

    def body(run: Run) -> None:
        lake.fs.delete_branch(repo, run.branch)
        tables.restore(lake, repo, run.branch, "numbers", to=run.base)

    with pytest.raises(StorageError, match="superseded by a later attempt"):
        commit_once(lake, Job(repo, "rollback", "f" * 64), body)
    assert keys(lake, repo) == [1]


def test_uncommitted_rows_are_invisible_elsewhere(lake: Lake, repo: str) -> None:
    def body(run: Run) -> None:
        row(2)(run)
        assert keys(lake, repo) == [1]

    ingest(lake, repo, 1)
    commit_once(lake, Job(repo, "ingest", "b" * 64), body)
    assert keys(lake, repo) == [1, 2]


def test_a_run_on_a_users_branch_leaves_main_alone(lake: Lake, repo: str) -> None:
    ingest(lake, repo, 1)
    lake.fs.create_branch(repo, "idea", source="main")
    ingest(lake, repo, 2, on="idea")
    assert keys(lake, repo) == [1]
    assert keys(lake, repo, "idea") == [1, 2]


def test_a_cast_is_refused_before_anything_is_written(lake: Lake, repo: str) -> None:
    ingest(lake, repo, 1)
    before = lake.fs.head(repo, "main")

    def body(run: Run) -> None:
        run.append("numbers", pl.DataFrame({"key": ["7"]}))

    with pytest.raises(Refused, match="key: String for Int64"):
        commit_once(lake, Job(repo, "ingest", "c" * 64), body)
    assert lake.fs.head(repo, "main") == before


def test_a_pin_is_a_full_commit_id_only(lake: Lake, repo: str) -> None:
    full = lake.pin(repo).commit
    assert Pin.parse(f"{repo}@{full}") == Pin(repo, full)
    for short in ("main", full[:12], full.upper() + "0"):
        with pytest.raises(Refused):
            Pin(repo, short)


def test_main_refuses_direct_writes(lake: Lake, repo: str) -> None:
    with pytest.raises(StorageError):
        lake.fs.put(repo, "main", "stray", b"1")
    with pytest.raises(StorageError):
        tables.append(lake, repo, "main", "numbers", pl.DataFrame({"key": [1]}))
    assert not lake.fs.list_uncommitted(repo, "main")


def test_a_dataset_that_is_not_there_is_not_found(lake: Lake, repo: str) -> None:
    with pytest.raises(NotFound, match="no dataset nothing"):
        tables.scan(lake, lake.pin(repo), "nothing")


def test_a_conflict_that_never_ends_is_reported(
    lake: Lake, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.runs.transaction.MAX_REPLAYS", 2)

    def body(run: Run) -> None:
        run.put("taken", b"mine")

    commit_once(lake, Job(repo, "first", "d" * 64), body)
    with pytest.raises(Conflict, match="lost 2 races"):
        commit_once(lake, Job(repo, "second", "e" * 64), body)


def test_making_a_pipeline_again_mends_it_and_keeps_other_rules(lake: Lake, repo: str) -> None:
    lake.fs.delete_branch(repo, "landing")
    lake.fs.protect(repo, "prod-*")
    lake.create_pipeline(repo)
    assert "landing" in lake.fs.branches(repo)
    lake.fs.create_branch(repo, "prod-1", source="main")
    for branch in ("main", "prod-1"):
        with pytest.raises(StorageError):
            lake.fs.put(repo, branch, "stray", b"1")


def test_a_lake_that_does_not_answer_is_unavailable(lake: Lake) -> None:
    away = Lake(Access("http://127.0.0.1:9", "AKIAHEADRACETESTS", "nobody listens there"))
    with pytest.raises(Unavailable, match="No answer"):
        tables.open_table(away, "any", "main", "numbers")
    with pytest.raises(Unavailable, match="No answer"):
        away.pin("any")
