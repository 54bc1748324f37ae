"""What a merge by key does with the records of both sides, whatever became of the runs."""

import os
import secrets
from datetime import UTC, datetime

import httpx
import polars as pl
import pytest

from storage import tables
from storage.errors import NotFound, Refused
from storage.forgetting.forget import ForgetDetails, forget
from storage.forgetting.purge import purge, waiting
from storage.forgetting.selection import ByKey
from storage.lake import Lake
from storage.runs import Job, Outcome, commit_once, records
from storage.versions.merge_by_key import merge_branch
from storage.versions.rollback import Request, roll_back

TABLE = "visits"
KEYS = {TABLE: ("person",)}


def add(lake: Lake, repo: str, person: str, *, on: str = "main", run: str = "") -> Outcome:
    frame = pl.DataFrame({"person": [person], "note": [f"{person} {secrets.token_hex(8)}"]})
    return commit_once(
        lake,
        Job(repo, "ingest", run or secrets.token_hex(32), on=on),
        lambda run: run.append(TABLE, frame),
    )


def people(lake: Lake, repo: str, ref: str = "main") -> set[str]:
    return set(tables.scan(lake, lake.pin(repo, ref), TABLE).collect()["person"])


def record(lake: Lake, repo: str, outcome: Outcome) -> records.Record:
    one = outcome.record
    found = records.find(lake, repo, "main", stage=one.stage, run=one.run_id)
    assert found is not None
    return found


def asked(due: datetime) -> ForgetDetails:
    return ForgetDetails(
        kind="key",
        dataset="visits",
        columns=("person",),
        reason="asked",
        actor="me",
        purge_after=due,
        releases=(),
        branches=(),
    )


def test_what_a_branch_forgot_is_purged_from_main_after_its_merge(lake: Lake, repo: str) -> None:
    add(lake, repo, "someone")
    add(lake, repo, "someone else")
    lake.fs.create_branch(repo, "mine", source="main")
    now = datetime.now(UTC)
    selection = ByKey(("person",), (("someone",),))
    forget(lake, repo, selection, request="r", details=asked(now), on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone else"}
    lake.fs.delete_branch(repo, "mine")
    (one,) = waiting(lake, repo)
    (found,) = purge(lake, repo, now=now, erase=lambda _: False)
    assert (found.request, found.is_done) == (one.request.run_id, False)
    assert found.objects > 0


def test_a_rollback_on_a_branch_is_merged_with_the_runs_it_undid(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "someone").pin
    undone = add(lake, repo, "a bad delivery")
    lake.fs.create_branch(repo, "mine", source="main")
    back = roll_back(lake, Request("r", (TABLE,), before, "why", "me"), on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone"}
    superseded = record(lake, repo, undone).superseded
    assert superseded is not None
    assert superseded.by == back.record.run_id


def test_a_run_that_was_merged_and_then_undone_on_its_branch_is_merged_again(
    lake: Lake, repo: str
) -> None:
    before = add(lake, repo, "someone").pin
    lake.fs.create_branch(repo, "mine", source="main")
    undone = add(lake, repo, "a trial", on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    roll_back(lake, Request("r", (TABLE,), before, "why", "me"), on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone"}
    assert record(lake, repo, undone).superseded is not None


def test_runs_that_may_run_again_come_again_with_the_next_merge(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "someone").pin
    lake.fs.create_branch(repo, "mine", source="main")
    undone = add(lake, repo, "a trial", on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    roll_back(lake, Request("r", (TABLE,), before, "why", "me", may_run_again=True))
    assert people(lake, repo) == {"someone"}
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone", "a trial"}
    assert record(lake, repo, undone).superseded is None


def test_a_merge_that_found_its_rows_there_is_undone_with_them(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "someone").pin
    lake.fs.create_branch(repo, "mine", source="main")
    frame = pl.DataFrame({"person": ["the same"], "note": ["the same"]})
    for branch in ("mine", "main"):
        commit_once(
            lake,
            Job(repo, "ingest", secrets.token_hex(32), on=branch),
            lambda run: run.append(TABLE, frame),
        )
    merged = merge_branch(lake, repo, "mine", keys=KEYS)
    assert merged.record.tables == {}
    roll_back(lake, Request("r", (TABLE,), before, "why", "me", may_run_again=True))
    assert record(lake, repo, merged).superseded is not None
    add(lake, repo, "another", on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone", "the same", "another"}


def test_a_run_that_happened_on_each_side_by_itself_is_refused(lake: Lake, repo: str) -> None:
    add(lake, repo, "someone")
    lake.fs.create_branch(repo, "mine", source="main")
    add(lake, repo, "the same batch", on="mine", run="d" * 64)
    head = add(lake, repo, "the same batch", run="d" * 64).pin
    with pytest.raises(Refused, match="on both sides"):
        merge_branch(lake, repo, "mine", keys=KEYS)
    assert lake.pin(repo) == head


@pytest.mark.skipif(
    "LAKEFS_ENDPOINT" in os.environ, reason="lakeFS keeps the commits of deleted branches"
)
def test_a_name_used_again_merges_though_the_first_branch_is_collected(
    lake: Lake, repo: str
) -> None:
    add(lake, repo, "someone")
    lake.fs.create_branch(repo, "mine", source="main")
    first = add(lake, repo, "first", on="mine").pin
    merge_branch(lake, repo, "mine", keys=KEYS)
    lake.fs.delete_branch(repo, "mine")
    collect_garbage(lake)
    with pytest.raises(NotFound):
        lake.pin(repo, first.commit)
    lake.fs.create_branch(repo, "mine", source="main")
    add(lake, repo, "second", on="mine")
    merge_branch(lake, repo, "mine", keys=KEYS)
    assert people(lake, repo) == {"someone", "first", "second"}


def collect_garbage(lake: Lake) -> None:
    access = lake.access
    answer = httpx.post(
        f"{access.endpoint}/_headrace/gc",
        json={"grace_s": 0.0, "dry_run": False},
        auth=(access.access_key_id, access.secret_access_key),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
