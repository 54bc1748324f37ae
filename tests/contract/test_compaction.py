"""Records become rows, and every reader sees the same with a table and without."""

import json
from pathlib import Path

import polars as pl
import pytest

from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin
from storage.runs import Job, Outcome, Run, commit_once, record_table, records
from storage.runs.compaction import compact
from storage.runs.summaries import State, Summary
from storage.versions.rollback import Request, roll_back

GUIDE = Path(__file__).parents[2] / "docs/guides/data.md"


def land(lake: Lake, repo: str, key: int, stage: str = "ingest") -> Outcome:
    def body(run: Run) -> None:
        run.append("numbers", pl.DataFrame({"key": [key]}))
        run.counts["kept"] = 1
        run.details.update(dataset="numbers", batch=f"b{key}")

    run = records.run_id(stage, str(key))
    return commit_once(lake, Job(repo, stage, run), body)


def from_objects(lake: Lake, pin: Pin, stage: str = "") -> list[records.Record]:
    """Every record, without the table: what `at` must agree with."""
    texts = records.read_bodies(lake, pin, records.list_paths(lake, pin, stage=stage))
    found = [records.read_record(path, text) for path, text in texts.items()]
    return sorted(found, key=lambda r: (r.started_at, r.run_id), reverse=True)


def assert_alike(lake: Lake, repo: str) -> None:
    pin = lake.pin(repo)
    for stage in ("", "ingest", "train", "rollback", "none"):
        expected = from_objects(lake, pin, stage)
        assert records.at(lake, pin, stage=stage) == expected
        for limit in (1, 2, 50):
            newest = records.read_newest(lake, pin, stage=stage, limit=limit)
            assert newest == expected[:limit]


def test_the_table_holds_what_the_objects_say_and_the_objects_stay(lake: Lake, repo: str) -> None:
    landed = [land(lake, repo, key) for key in range(3)]
    assert compact(lake, repo, [], enough=4) is None
    outcome = compact(lake, repo, [], enough=3)
    assert outcome is not None
    assert outcome.record.counts == {"records": 3, "outdated": 0}
    rows = pl.scan_delta(
        f"s3://{repo}/main/metadata/runs", storage_options=lake.storage_options
    ).collect()
    assert rows.schema.to_python() == record_table.SCHEMA.to_python()
    assert set(rows["run_id"]) == {one.record.run_id for one in landed}
    assert json.loads(rows["counts"][0]) == {"kept": 1}
    assert_alike(lake, repo)


def test_readers_see_what_happened_since_and_what_a_rollback_undid(lake: Lake, repo: str) -> None:
    start = land(lake, repo, 0).pin
    for key in range(1, 4):
        land(lake, repo, key)
    compact(lake, repo, [], enough=1)
    land(lake, repo, 4)
    land(lake, repo, 5, "train")
    assert_alike(lake, repo)
    roll_back(lake, Request("r1", ("numbers",), start, "bad", "me", may_run_again=True))
    assert_alike(lake, repo)
    compact(lake, repo, [], enough=1)
    assert_alike(lake, repo)
    undone = pl.scan_delta(
        f"s3://{repo}/main/metadata/runs", storage_options=lake.storage_options
    ).filter(pl.col("may_run_again"))
    assert undone.select("run_id").collect().height == 5
    land(lake, repo, 2)
    compact(lake, repo, [], enough=1)
    assert_alike(lake, repo)


def test_many_compactions_leave_few_files_and_one_checkpoint(lake: Lake, repo: str) -> None:
    for key in range(6):
        for stage in ("ingest", "train", "gate", "monitor"):
            land(lake, repo, key, stage)
        compact(lake, repo, [], enough=1)
    assert_alike(lake, repo)
    paths = [e.path for e in lake.fs.objects(repo, "main", prefix=f"{record_table.FOLDER}/")]
    logs = [path for path in paths if "_delta_log" in path]
    assert len(paths) - len(logs) <= 24
    assert len(logs) <= 3


@pytest.mark.parametrize("lost", [records.COMPACTED.path, record_table.FOLDER])
def test_a_lost_mark_or_table_means_a_table_made_anew(lake: Lake, repo: str, lost: str) -> None:
    land(lake, repo, 1)
    compact(lake, repo, [], enough=1)

    def lose(run: Run) -> None:
        for entry in lake.fs.objects(repo, run.branch, prefix=lost):
            lake.fs.delete(repo, run.branch, entry.path)

    commit_once(lake, Job(repo, "edit", "e" * 64), lose)
    assert_alike(lake, repo)
    compact(lake, repo, [], enough=1)
    assert records.compacted_at(lake, lake.pin(repo)) is not None
    assert_alike(lake, repo)


def test_two_compactions_of_the_same_are_one(lake: Lake, repo: str) -> None:
    land(lake, repo, 1)
    first = compact(lake, repo, [], enough=1)
    assert first is not None
    base = records.compacted_at(lake, first.pin)
    assert base is not None
    assert base.commit == first.record.base
    # What it left, its own record, is all there is to do.
    second = compact(lake, repo, [], enough=1)
    assert second is not None
    assert not second.already
    assert second.record.counts == {"records": 1, "outdated": 0}


def test_a_summary_is_derived_from_what_changed_since(lake: Lake, repo: str) -> None:
    asked: list[bool] = []

    def derive(lake: Lake, pin: Pin, last: State | None) -> State:
        asked.append(last is None)
        if last is None:
            return {"commit": pin.commit, "runs": len(records.list_paths(lake, pin))}
        new = records.find_changed(lake, Pin(repo, last["commit"]), pin)
        return {"commit": pin.commit, "runs": last["runs"] + len(new.added)}

    summary = Summary("counted", derive)
    land(lake, repo, 1)
    assert summary.at(lake, lake.pin(repo))["runs"] == 1
    compact(lake, repo, [summary], enough=1)
    land(lake, repo, 2)
    assert summary.at(lake, lake.pin(repo))["runs"] == 3
    assert asked == [True, True, False]


def test_a_rollback_leaves_the_table_of_runs_alone(lake: Lake, repo: str) -> None:
    start = land(lake, repo, 0).pin
    land(lake, repo, 1)
    compact(lake, repo, [], enough=1)
    before = {e.path: e.checksum for e in lake.fs.objects(repo, "main", prefix="metadata/runs/")}
    outcome = roll_back(lake, Request("r", ("numbers",), start, "bad", "me"))
    assert [one[:6] for one in outcome.record.details["supersedes"]] == ["ingest"]
    after = {e.path: e.checksum for e in lake.fs.objects(repo, "main", prefix="metadata/runs/")}
    assert after == before


def test_a_run_is_found_by_how_its_id_begins(lake: Lake, repo: str) -> None:
    one = land(lake, repo, 1).record
    other = land(lake, repo, 1, "train").record
    compact(lake, repo, [], enough=1)
    pin = lake.pin(repo)
    assert records.find_one(lake, pin, one.run_id[:9]) == one
    assert records.find_one(lake, pin, other.run_id) == other
    with pytest.raises(NotFound) as missing:
        records.find_one(lake, pin, "z")
    assert missing.value.code == "lake.run_not_found"
    with pytest.raises(Refused) as several:
        records.find_one(lake, pin, "")
    assert several.value.code == "lake.run_ambiguous"


def test_the_guides_query_of_the_runs_works(
    lake: Lake, repo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    land(lake, repo, 1)
    compact(lake, repo, [], enough=1)
    text = GUIDE.read_text().partition("### Querying the runs")[2]
    block = text.partition("```python\n")[2].partition("```")[0]
    for shown, real in (
        ("s3://flights/", f"s3://{repo}/"),
        ("http://127.0.0.1:8470", lake.access.endpoint.rstrip("/")),
        ('access_key_id": "..."', f'access_key_id": "{lake.access.access_key_id}"'),
        ('secret_access_key": "..."', f'secret_access_key": "{lake.access.secret_access_key}"'),
    ):
        assert shown in block
        block = block.replace(shown, real)
    exec(compile(block, str(GUIDE), "exec"), {})
    assert "┆ 1 " in capsys.readouterr().out
