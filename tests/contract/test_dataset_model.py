"""Merge by key and rollback against a dict, whatever people do to a table in between."""

import secrets
import uuid
from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import tables
from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin
from storage.runs import Job, Run, commit_once
from storage.versions.merge_by_key import merge_branch
from storage.versions.rollback import Request, roll_back

Rows = dict[str | None, int]
# A value to set a key to, or None to delete it.
Edits = Mapping[str | None, int | None]

KEYS = st.sampled_from(["a", "b", "c d", 'e"', None])
EDITS = st.dictionaries(KEYS, st.none() | st.integers(0, 3), max_size=4)
TABLE = "t"
SCHEMA = {"k": pl.String, "v": pl.Int64}


def apply(lake: Lake, repo: str, branch: str, edits: Edits) -> Pin:
    """The edits as Delta operations of one run on the branch."""
    gone = pl.DataFrame({"k": [k for k, v in edits.items() if v is None]}, schema={"k": pl.String})
    now = [(k, v) for k, v in edits.items() if v is not None]
    rows = pl.DataFrame(now, schema=SCHEMA, orient="row")

    def body(run: Run) -> None:
        if not _exists(run):
            run.append(TABLE, rows)
            return
        handle = tables.open_table(lake, repo, run.branch, TABLE)
        for frame, merging in ((gone, "delete"), (rows, "update")):
            if frame.is_empty():
                continue
            match = tables.match_on(["k"], frame)
            merge = handle.merge(frame, match, source_alias="new", target_alias="old")
            if merging == "delete":
                merge.when_matched_delete().execute()
            else:
                merge.when_matched_update_all().when_not_matched_insert_all().execute()
        run.tables[TABLE] = handle.version()

    return commit_once(lake, Job(repo, "edit", secrets.token_hex(32), on=branch), body).pin


def _exists(run: Run) -> bool:
    try:
        run.scan(TABLE)
    except NotFound:
        return False
    return True


def edited(rows: Rows, edits: Edits) -> Rows:
    return {k: v for k, v in {**rows, **edits}.items() if v is not None}


def rows(lake: Lake, repo: str, ref: str) -> Rows:
    try:
        found = tables.scan(lake, lake.pin(repo, ref), TABLE).collect()
    except NotFound:
        return {}
    assert found["k"].n_unique() == found.height
    return dict(found.select("k", "v").iter_rows())


def check_merges(lake: Lake, repo: str, first: Edits, rounds: list[tuple[Edits, Edits]]) -> None:
    target, source = f"t{uuid.uuid4().hex[:8]}", f"s{uuid.uuid4().hex[:8]}"
    lake.fs.create_branch(repo, target, source="main")
    apply(lake, repo, target, first)
    lake.fs.create_branch(repo, source, source=target)
    ours = theirs = seen = edited({}, first)
    for on_source, on_target in rounds:
        apply(lake, repo, source, on_source)
        apply(lake, repo, target, on_target)
        ours, theirs = edited(ours, on_source), edited(theirs, on_target)
        changed = {k for k in {*ours, *seen} if ours.get(k) != seen.get(k)}
        conflicts = {
            k for k in changed if theirs.get(k) != seen.get(k) and theirs.get(k) != ours.get(k)
        }
        if conflicts:
            with pytest.raises(Refused, match=f"{len(conflicts)} keys of {TABLE} changed on both"):
                merge_branch(lake, repo, source, keys={TABLE: ("k",)}, into=target)
        else:
            merge_branch(lake, repo, source, keys={TABLE: ("k",)}, into=target)
            theirs = edited(theirs, {k: ours.get(k) for k in changed})
            seen = ours
        assert rows(lake, repo, target) == theirs
        assert rows(lake, repo, source) == ours


def check_rollbacks(lake: Lake, repo: str, steps: list[Edits | int]) -> None:
    branch = f"b{uuid.uuid4().hex[:8]}"
    lake.fs.create_branch(repo, branch, source="main")
    states: list[tuple[Pin, Rows]] = [(apply(lake, repo, branch, {"a": 0}), {"a": 0})]
    for step in steps:
        if isinstance(step, int):
            to, then = states[step % len(states)]
            request = Request(secrets.token_hex(8), (TABLE,), to, "why", "me")
            states.append((roll_back(lake, request, on=branch).pin, then))
        else:
            pin = apply(lake, repo, branch, step)
            states.append((pin, edited(states[-1][1], step)))
        assert rows(lake, repo, branch) == states[-1][1]
    for pin, then in states:
        assert rows(lake, repo, pin.commit) == then


ROUNDS = st.lists(st.tuples(EDITS, EDITS), min_size=1, max_size=3)
STEPS = st.lists(EDITS | st.integers(0, 9), min_size=1, max_size=6)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
short = settings(max_examples=5, deadline=None, suppress_health_check=QUIET, derandomize=True)
long = settings(max_examples=150, deadline=None, suppress_health_check=QUIET)


@short
@given(first=EDITS, rounds=ROUNDS)
def test_merges_by_key_do_what_a_dict_does(
    lake: Lake, repo: str, first: Edits, rounds: list[tuple[Edits, Edits]]
) -> None:
    check_merges(lake, repo, first, rounds)


@short
@given(steps=STEPS)
def test_rollbacks_bring_back_what_a_dict_was(
    lake: Lake, repo: str, steps: list[Edits | int]
) -> None:
    check_rollbacks(lake, repo, steps)


@pytest.mark.long
@long
@given(first=EDITS, rounds=ROUNDS)
def test_merges_by_key_do_what_a_dict_does_for_long(
    lake: Lake, repo: str, first: Edits, rounds: list[tuple[Edits, Edits]]
) -> None:
    check_merges(lake, repo, first, rounds)


@pytest.mark.long
@long
@given(steps=STEPS)
def test_rollbacks_bring_back_what_a_dict_was_for_long(
    lake: Lake, repo: str, steps: list[Edits | int]
) -> None:
    check_rollbacks(lake, repo, steps)
