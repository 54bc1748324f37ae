"""`headrace data` and `headrace runs` against a lake, the way a person uses them."""

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from examples.flights.pipeline import pipeline as flights
from flows.cli.main import assemble
from flows.data.forget import key_digest
from flows.errors import Misconfigured
from flows.ingest.land import Landed, land, survey
from flows.pipeline import Pipeline
from storage import tables
from storage.errors import Conflict, Damaged, NotFound, Refused
from storage.lake import Lake
from storage.landing import deliver, take_stock
from storage.registry import layout
from storage.runs import Job, commit_once


def planes(*tails: str, seats: float = 150.0) -> pl.DataFrame:
    return pl.DataFrame(
        {"tailnum": tails, "year_built": 1999.0, "seats": seats, "engines": 2.0},
        schema=dict.fromkeys(["year_built", "seats", "engines"], pl.Float64)
        | {"tailnum": pl.String},
        strict=True,
    ).select("tailnum", "year_built", "seats", "engines")


@dataclass(frozen=True)
class Project:
    lake: Lake
    pipeline: Pipeline
    environment: dict[str, str]
    folder: Path

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(assemble(), arguments, env=self.environment)

    def read(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def land(self, batch: str, frame: pl.DataFrame | bytes, *, on: str = "main") -> Landed:
        data = frame if isinstance(frame, bytes) else parquet(frame)
        deliver(self.lake, self.pipeline.repository, "planes", batch, {"part-0.parquet": data})
        stock = take_stock(self.lake, self.pipeline.repository)
        found = survey(self.lake, self.pipeline, stock, on=on).waiting
        (one,) = (one for one in found if one.id == batch)
        return land(self.lake, self.pipeline, one, on=on)

    def rows(self, ref: str = "main") -> set[str]:
        pin = self.lake.pin(self.pipeline.repository, ref)
        return set(tables.scan(self.lake, pin, "planes").collect()["tailnum"])


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def project(lake: Lake, tmp_path: Path) -> Project:
    name = f"t-{uuid.uuid4().hex[:12]}"
    module = name.replace("-", "_")
    (tmp_path / "prefect.yaml").touch()
    (tmp_path / f"{module}.py").write_text(
        "from dataclasses import replace\n"
        "from examples.flights.pipeline import pipeline as flights\n"
        f"pipeline = replace(flights, name={name!r})\n"
    )
    lake.create_pipeline(name)
    environment = {
        "HEADRACE_ROOT": str(tmp_path),
        "HEADRACE_PIPELINE": f"{module}:pipeline",
        "LAKEFS_ENDPOINT": lake.access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": lake.access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": lake.access.secret_access_key,
    }
    return Project(lake, replace(flights, name=name), environment, tmp_path)


def test_ls_shows_rows_and_who_wrote_a_table_with_its_quarantine_below(project: Project) -> None:
    bad = planes("N9", seats=0.0)
    project.land("2013-01", pl.concat([planes(*(f"N{i:02}" for i in range(30))), bad]))
    landed = project.read("data", "batches")["batches"][0]
    found = project.read("data", "ls")["tables"]
    assert [(one["table"], one["rows"]) for one in found] == [
        ("planes", 30),
        ("quarantine/planes", 1),
    ]
    assert {one["writer"]["stage"] for one in found} == {"ingest"}
    assert {one["writer"]["run_id"] for one in found} == {landed["run_id"]}
    lines = project.run("data", "ls").stdout.splitlines()
    assert lines[1].startswith("planes ")
    assert lines[2].startswith("  quarantine/planes ")


def test_show_joins_the_contract_and_the_counts_of_all_batches(project: Project) -> None:
    project.land("a", pl.concat([planes(*(f"N{i:02}" for i in range(30))), planes("N9", seats=0)]))
    project.land("b", planes("N00", "N50"))
    found = project.read("data", "show", "planes", "--rows", "2")
    by_name = {one["name"]: one for one in found["columns"]}
    assert by_name["tailnum"]["key"]
    assert by_name["seats"]["rules"] == [">= 1.0", "<= 900.0"]
    assert by_name["year_built"]["nullable"]
    assert found["quality"] == {
        "batches": 2,
        "delivered": 33,
        "kept": 31,
        "quarantined": 1,
        "duplicates": 1,
        "rules": {"seats|min": 1},
        "forgotten": 0,
    }
    assert len(found["first"]) == 2
    assert "31 kept + 1 quarantined + 1 duplicates" in project.run("data", "show", "planes").stdout


def test_batches_tell_waiting_merged_and_refused_apart(project: Project) -> None:
    project.land("good", planes("N1"))
    project.land("torn", parquet(planes("N2"))[:-20])
    content = {"part-0.parquet": parquet(planes("N3"))}
    deliver(project.lake, project.pipeline.repository, "planes", "fresh", content)
    found = {one["id"]: one for one in project.read("data", "batches")["batches"]}
    assert {name: one["state"] for name, one in found.items()} == {
        "good": "merged",
        "torn": "refused",
        "fresh": "waiting",
    }
    assert found["torn"]["rule"] == "readable"
    assert "readable: part-0.parquet" in project.run("data", "batches").stdout


def test_the_same_files_under_another_id_point_to_the_batch_that_was_merged(
    project: Project,
) -> None:
    project.land("first", planes("N1"))
    content = {"part-0.parquet": parquet(planes("N1"))}
    deliver(project.lake, project.pipeline.repository, "planes", "again", content)
    found = {one["id"]: one for one in project.read("data", "batches")["batches"]}
    assert (found["again"]["state"], found["again"]["same_as"]) == ("merged", "first")


def test_log_counts_rows_and_marks_what_a_rollback_undid(project: Project) -> None:
    good = project.land("a", planes("N1", "N2")).commit
    project.land("b", planes("N3"))
    done = project.run(
        "data", "rollback", "planes", "--to", good, "--reason", "a bad feed", "--yes"
    )
    assert done.exit_code == 0, done.output
    newest, second, first, *_ = project.read("data", "log", "planes")
    assert [newest["stage"], second["stage"], first["stage"]] == ["rollback", "ingest", "ingest"]
    assert newest["changes"] == [{"table": "planes", "added": 0, "removed": 1, "changed": 0}]
    assert newest["note"] == f"to {good[:12]}, 1 runs undone: a bad feed"
    assert newest["started_by"] == "headrace data rollback"
    assert second["superseded"] == f"undone by {newest['run_id'][:12]}, may not run again"
    assert (first["changes"][0]["added"], first["superseded"]) == (2, "")


def test_log_of_one_table_passes_over_the_others_and_shows_plain_commits(project: Project) -> None:
    project.land("a", planes("N1"))
    repository, lake = project.pipeline.repository, project.lake
    lake.fs.create_branch(repository, "mine", source="main")
    tables.append(lake, repository, "mine", "scratch", pl.DataFrame({"x": [1]}))
    lake.fs.commit(repository, "mine", message="by hand", metadata={})
    (entry,) = project.read("data", "log", "scratch", "--on", "mine")
    assert (entry["stage"], entry["note"]) == ("", "by hand")
    assert entry["changes"][0] == {
        "table": "scratch",
        "added": None,
        "removed": None,
        "changed": None,
    }
    assert [e["stage"] for e in project.read("data", "log", "planes", "--on", "mine")] == ["ingest"]


def test_rollback_shows_its_plan_and_repeated_is_one_rollback(project: Project) -> None:
    good = project.land("a", planes("N1", "N2")).commit
    project.land("b", planes("N3"))
    command = ("data", "rollback", "--all", "--to", good, "--reason", "why", "--yes")
    done = project.run(*command)
    assert "planes: 3 rows now, 2 then" in done.stderr
    assert "undoes ingest" in done.stderr
    assert project.rows() == {"N1", "N2"}
    head = project.lake.pin(project.pipeline.repository)
    again = project.read(*command)
    assert again["already"]
    assert again["tables"] == {"planes": {"version": 2, "rows": 2}}
    assert len(again["supersedes"]) == 1
    assert project.lake.pin(project.pipeline.repository) == head


def test_rollback_without_a_terminal_needs_yes_and_changes_nothing(project: Project) -> None:
    good = project.land("a", planes("N1")).commit
    project.land("b", planes("N2"))
    done = project.run("data", "rollback", "planes", "--to", good, "--reason", "why")
    assert isinstance(done.exception, Misconfigured)
    assert "--yes" in done.exception.remedy
    assert project.rows() == {"N1", "N2"}


def test_rollback_takes_the_quarantine_along_and_lets_batches_run_again(project: Project) -> None:
    many = planes(*(f"N{i:02}" for i in range(30)))
    good = project.land("a", pl.concat([many, planes("N90", seats=0)])).commit
    more = planes(*(f"M{i:02}" for i in range(30)))
    project.land("b", pl.concat([more, planes("M90", seats=0)]))
    command = ("data", "rollback", "planes", "--to", good, "--reason", "why", "--yes")
    found = project.read(*command, "--may-run-again")
    assert {n: t["rows"] for n, t in found["tables"].items()} == {
        "planes": 30,
        "quarantine/planes": 1,
    }
    stock = take_stock(project.lake, project.pipeline.repository)
    (one,) = survey(project.lake, project.pipeline, stock).waiting
    assert land(project.lake, project.pipeline, one).kept == 30
    states = {b["id"]: b["state"] for b in project.read("data", "batches")["batches"]}
    assert states == {"a": "merged", "b": "merged"}
    fates = [e["superseded"] for e in project.read("data", "log", "planes")]
    assert fates == ["", "", "undone, and ran again since", ""]


def test_rollback_to_a_moment_finds_the_commit_that_stood_then(project: Project) -> None:
    good = project.land("a", planes("N1")).commit
    at = project.lake.fs.resolve(project.pipeline.repository, good).created_at
    # lakeFS tells time in seconds.
    while project.land(f"b{at}-{uuid.uuid4().hex}", planes(uuid.uuid4().hex[:6])):
        newest = project.lake.fs.resolve(project.pipeline.repository, "main").created_at
        if newest > at:
            break
    moment = pl.from_epoch(pl.Series([at])).item().isoformat()
    found = project.read("data", "rollback", "planes", "--at", moment, "--reason", "why", "--yes")
    stood = [e for e in project.read("data", "log") if e["commit"] == found["to"]]
    assert len(stood) == 1
    assert project.lake.fs.resolve(project.pipeline.repository, found["to"]).created_at == at


def test_rollback_to_before_the_table_names_a_later_commit(project: Project) -> None:
    before = project.lake.pin(project.pipeline.repository).commit
    project.land("a", planes("N1"))
    done = project.run("data", "rollback", "planes", "--to", before, "--reason", "why", "--yes")
    assert isinstance(done.exception, NotFound)
    assert "data log planes" in done.exception.remedy


def test_diff_lists_keys_by_kind(project: Project) -> None:
    project.land("a", planes("N1", "N2", "N3"))
    repository, lake = project.pipeline.repository, project.lake
    assert project.run("data", "branch", "fix").exit_code == 0
    table = tables.open_table(lake, repository, "fix", "planes")
    table.update(predicate="tailnum = 'N1'", updates={"seats": "200.0"})
    table.delete("tailnum = 'N2'")
    lake.fs.commit(repository, "fix", message="an edit", metadata={})
    project.land("b", planes("N4", "N5"), on="fix")
    (found,) = project.read("data", "diff", "main", "fix")["tables"]
    assert (found["rows_before"], found["rows_after"]) == (3, 4)
    kinds = {kind: found[kind] for kind in ("added", "changed", "removed")}
    assert kinds == {
        "added": {"count": 2, "sample": [["N4"], ["N5"]]},
        "changed": {"count": 1, "sample": [["N1"]]},
        "removed": {"count": 1, "sample": [["N2"]]},
    }
    shown = project.run("data", "diff", "main", "fix", "planes").stdout
    assert "planes added, by tailnum: N4; N5" in shown
    assert project.run("data", "diff", "main", "main").stdout == "No table differs.\n"


def test_diff_of_a_table_without_a_contract_needs_a_key(project: Project) -> None:
    repository, lake = project.pipeline.repository, project.lake
    lake.fs.create_branch(repository, "mine", source="main")
    tables.append(lake, repository, "mine", "scratch", pl.DataFrame({"x": [1], "y": [2]}))
    lake.fs.commit(repository, "mine", message="by hand", metadata={})
    (blind,) = project.read("data", "diff", "main", "mine")["tables"]
    assert (blind["rows_before"], blind["rows_after"], blind["added"]) == (None, 1, None)
    (found,) = project.read("data", "diff", "main", "mine", "scratch", "--key", "x")["tables"]
    assert found["added"] == {"count": 1, "sample": [[1]]}


def test_diff_says_how_far_each_column_moved_and_takes_as_large_a_sample_as_asked(
    project: Project,
) -> None:
    project.land("a", planes(*(f"N{i:02}" for i in range(30))))
    project.land("b", planes(*(f"M{i:02}" for i in range(30)), seats=300.0))
    (found,) = project.read("data", "diff", "main~1", "main", "--sample", "7")["tables"]
    moved = found["drift"][0]
    assert (moved["column"], moved["missing_after"]) == ("seats", 0.0)
    assert 0 < moved["js"] < 1
    assert [len(found["added"]["sample"]), found["added"]["count"]] == [7, 30]
    shown = project.run("data", "diff", "main~1", "main").stdout
    assert any(line.split()[:2] == ["planes", "seats"] for line in shown.splitlines())


def test_diff_without_a_key_still_tells_the_schema(project: Project) -> None:
    repository, lake = project.pipeline.repository, project.lake
    for name, frame in (("one", {"x": [1]}), ("two", {"x": ["1"]})):
        lake.fs.create_branch(repository, name, source="main")
        tables.append(lake, repository, name, "scratch", pl.DataFrame(frame))
        lake.fs.commit(repository, name, message="by hand", metadata={})
    (found,) = project.read("data", "diff", "one", "two")["tables"]
    assert found["schema"] == ["x: Int64 -> String"]
    refused = project.run("data", "diff", "one", "two", "scratch", "--key", "x").exception
    assert "no key column x of one type" in str(refused)


def test_diff_of_quarantined_rows_knows_their_key(project: Project) -> None:
    many = planes(*(f"N{i:02}" for i in range(40)))
    project.land("a", pl.concat([many, planes("M1", seats=0)]))
    others = planes(*(f"P{i:02}" for i in range(40)))
    project.land("b", pl.concat([others, planes("M1", seats=0)]))
    (found,) = project.read("data", "diff", "main~1", "main", "quarantine/planes")["tables"]
    assert found["added"] == {"count": 1, "sample": [["M1", "b", "seats|min"]]}


def test_a_branch_is_made_merged_by_key_and_deleted(project: Project) -> None:
    project.land("a", planes("N1"))
    assert project.run("data", "branch", "try", "--from", "main").exit_code == 0
    project.land("b", planes("N2"), on="try")
    project.land("c", planes("N3"))
    done = project.read("data", "merge", "try")
    assert done["tables"] == [{"table": "planes", "added": 1, "removed": 0, "changed": 0}]
    assert project.rows() == {"N1", "N2", "N3"}
    assert project.read("data", "merge", "try")["already"]
    assert project.read("data", "log")[0]["note"] == "branch try"
    assert project.run("data", "branch", "try", "--delete").exit_code == 0
    assert {b["name"] for b in project.read("data", "branch")} == {"main", "landing"}


@pytest.mark.parametrize("name", ["main", "landing", "run-ingest-1"])
def test_branches_of_the_stages_are_never_deleted(project: Project, name: str) -> None:
    done = project.run("data", "branch", name, "--delete")
    assert isinstance(done.exception, Refused)
    assert {"main", "landing"} <= project.lake.fs.branches(project.pipeline.repository).keys()


def test_branches_of_runs_are_not_listed(project: Project) -> None:
    project.lake.fs.create_branch(project.pipeline.repository, "run-x", source="main")
    assert {b["name"] for b in project.read("data", "branch")} == {"main", "landing"}


def test_a_tag_names_a_commit_for_good(project: Project) -> None:
    good = project.land("a", planes("N1")).commit
    assert project.read("data", "tag", "january")["commit"] == good
    assert project.run("data", "tag", "january", good).exit_code == 0
    project.land("b", planes("N2"))
    assert isinstance(project.run("data", "tag", "january").exception, Conflict)
    assert project.read("data", "ls", "--on", "january")["commit"] == good


def test_tags_are_listed_and_a_dropped_one_leaves_its_commit(project: Project) -> None:
    good = project.land("a", planes("N1")).commit
    for name in ("spring", "january"):
        project.run("data", "tag", name)
    found = project.read("data", "tag")
    assert [(one["name"], one["commit"]) for one in found] == [("january", good), ("spring", good)]
    assert project.run("data", "tag", "spring", "--delete").exit_code == 0
    assert [one["name"] for one in project.read("data", "tag")] == ["january"]
    assert project.read("data", "ls", "--on", good)["commit"] == good
    assert isinstance(project.run("data", "tag", "spring", "--delete").exception, NotFound)


def test_a_moment_and_a_tables_version_name_a_commit_as_any_ref_does(project: Project) -> None:
    first = project.land("a", planes("N1")).commit
    second = project.land("b", planes("N2")).commit
    assert project.read("data", "show", "planes", "--at", "planes@v0")["commit"] == first
    found = project.read("data", "diff", "planes@v0", "planes@v1")
    assert (found["before"], found["after"]) == (first, second)
    assert project.read("data", "ls", "--at", "2999-01-01")["commit"] == second
    assert project.read("data", "ls", "--at", "main@2999-01-01T00:00+02:00")["commit"] == second
    assert isinstance(project.run("data", "ls", "--at", "1999-01-01").exception, NotFound)
    none = project.run("data", "ls", "--at", "planes@v7").exception
    assert "planes has no version 7" in str(none)


def test_a_merge_whose_result_breaks_a_contract_is_refused_and_main_is_untouched(
    project: Project,
) -> None:
    project.land("a", planes("N1", "N2"))
    repository, lake = project.pipeline.repository, project.lake
    project.run("data", "branch", "fix")
    table = tables.open_table(lake, repository, "fix", "planes")
    table.update(predicate="tailnum = 'N1'", updates={"seats": "-1.0"})
    lake.fs.commit(repository, "fix", message="an edit", metadata={})
    before = lake.pin(repository)
    refused = project.run("data", "merge", "fix").exception
    assert isinstance(refused, Refused)
    assert "planes would not keep its contract: 1 break seats|min" in str(refused)
    assert lake.pin(repository) == before
    table = tables.open_table(lake, repository, "fix", "planes")
    table.update(predicate="tailnum = 'N1'", updates={"seats": "200.0"})
    lake.fs.commit(repository, "fix", message="corrected", metadata={})
    assert project.read("data", "merge", "fix")["tables"][0]["changed"] == 1


def test_a_merge_that_would_repeat_a_key_is_refused(project: Project) -> None:
    project.land("a", planes("N1"))
    repository, lake = project.pipeline.repository, project.lake
    project.run("data", "branch", "twice")
    tables.append(lake, repository, "twice", "planes", planes("N2", "N2"))
    lake.fs.commit(repository, "twice", message="by hand", metadata={})
    refused = project.run("data", "merge", "twice").exception
    assert "Keys would stand more than once in planes: ('N2',)" in str(refused)
    assert project.rows() == {"N1"}


def test_a_rollbacks_dry_run_changes_nothing(project: Project) -> None:
    good = project.land("a", planes("N1")).commit
    project.land("b", planes("N2"))
    command = ("data", "rollback", "planes", "--to", good, "--reason", "why", "--dry-run")
    found = project.read(*command)
    assert found["tables"] == {"planes": {"rows_now": 2, "rows_then": 1, "changes": True}}
    assert len(found["supersedes"]) == 1
    assert "planes: 2 rows now, 1 then" in project.run(*command).stderr
    assert project.rows() == {"N1", "N2"}


FORGET = ("data", "forget", "--dataset", "planes", "--reason", "request 17")


def test_forget_lists_what_was_found_where_and_a_dry_run_changes_nothing(project: Project) -> None:
    good = project.land("a", planes("N1", "N2")).commit
    lake, name = project.lake, project.pipeline.name
    commit_once(
        lake,
        Job(f"{name}-releases", "register", "9" * 64, inputs={"data": lake.pin(name, good)}),
        lambda run: run.details.update(release=f"{name}/1"),
    )
    project.run("data", "branch", "mine")
    found = project.read(*FORGET, "--key", "tailnum=N1", "--dry-run")
    assert (found["dry_run"], found["run_id"]) == (True, None)
    assert found["found"]["rows"] == {"planes": 1}
    assert found["found"]["batches"] == ["landing/planes/a"]
    assert found["found"]["branches"] == ["mine"]
    assert found["found"]["releases"] == [f"{name}/1"]
    assert (found["found"]["files"], found["found"]["logs"]) == (2, 1)
    assert project.rows() == {"N1", "N2"}
    assert project.lake.pin(name).commit == good


def test_forget_then_purge_leaves_a_record_without_the_value(project: Project) -> None:
    before = project.land("a", planes("NOBODYS", "N2")).commit
    found = project.read(*FORGET, "--key", "tailnum=NOBODYS", "--purge-after", "0d", "--yes")
    assert project.rows() == {"N2"}
    assert project.read("data", "show", "planes")["quality"]["forgotten"] == 1
    whole = project.run("runs", "show", found["run_id"]).stdout
    assert "NOBODYS" not in whole
    assert "request 17" in whole
    secret = bytes.fromhex((project.folder / ".headrace" / "forget.key").read_text())
    assert key_digest(["tailnum"], ["NOBODYS"], secret) in whole
    (purged,) = project.read("data", "purge", "--yes")["purged"]
    assert purged["request"] == found["run_id"]
    if purged["is_done"]:
        gone = project.run("data", "show", "planes", "--at", before).exception
        assert isinstance(gone, Damaged)
        assert "data log" in gone.remedy
        listed = project.read("data", "ls", "--at", before)["tables"]
        assert [(one["table"], one["rows"]) for one in listed] == [("planes", None)]
        assert project.read("data", "purge", "--yes")["purged"] == []
    newest = project.read("data", "log", "planes")[0]
    assert newest["changes"] == [{"table": "planes", "added": 0, "removed": 1, "changed": 0}]
    assert newest["note"].startswith("request 17; purge after ")


def test_what_is_no_key_is_never_used_as_one(project: Project) -> None:
    project.land("a", planes("NOBODYS", "N2"))
    path = project.folder / ".headrace" / "forget.key"
    path.parent.mkdir()
    for text in ("", "abcd", "no hex digits at all"):
        path.write_text(text)
        refused = project.run(*FORGET, "--key", "tailnum=NOBODYS", "--yes").exception
        assert isinstance(refused, Misconfigured)
    path.unlink()
    assert "forget.key is new" in project.run(*FORGET, "--key", "tailnum=N2", "--yes").stderr
    assert project.rows() == {"NOBODYS"}


def test_a_time_before_the_first_commit_is_named_in_utc(project: Project) -> None:
    project.land("a", planes("N1"))
    command = ["data", "rollback", "planes", "--reason", "why", "--at"]
    early = project.run(*command, "2001-02-03T04:05:06+02:00").exception
    assert isinstance(early, NotFound)
    assert "2001-02-03 02:05:06 UTC" in str(early)
    assert project.run(*command, "0001-01-01T00:00+14:00").exit_code == 2


def test_a_reason_that_names_the_value_is_refused(project: Project) -> None:
    head = project.land("a", planes("NOBODYS", "N2")).commit
    command = ["data", "forget", "--dataset", "planes", "--key", "tailnum=NOBODYS", "--yes"]
    refused = project.run(*command, "--reason", "owner of NOBODYS asked")
    assert isinstance(refused.exception, Refused)
    assert "NOBODYS" not in str(refused.exception)
    assert project.lake.pin(project.pipeline.repository).commit == head


def test_after_a_purge_one_can_forget_again_and_name_the_versions_that_are_left(
    project: Project,
) -> None:
    first = project.land("a", planes("N0")).commit
    pin = project.lake.pin(project.pipeline.repository, project.land("b", planes("N1")).commit)
    commit_once(
        project.lake,
        Job(project.pipeline.releases, layout.REGISTER, "a" * 64, inputs={"data": pin}),
        lambda run: run.details.update(release="m/1"),
    )
    project.read(*FORGET, "--key", "tailnum=N1", "--purge-after", "0d", "--yes")
    kept = project.land("c", planes("N2")).commit
    project.land("d", planes("N3"))
    project.read("data", "purge", "--yes")
    for version, commit in ((0, first), (3, kept)):
        found = project.read("data", "show", "planes", "--at", f"planes@v{version}")
        assert found["commit"] == commit
    again = project.read(*FORGET, "--key", "tailnum=N0", "--yes")["found"]
    assert again["releases"] == ["m/1"]
    assert project.rows() == {"N2", "N3"}


def test_forgetting_again_finds_nothing_and_changes_nothing(project: Project) -> None:
    project.land("a", planes("N1", "N2"))
    project.run(*FORGET, "--key", "tailnum=N1", "--yes")
    head = project.lake.pin(project.pipeline.repository)
    again = project.run(*FORGET, "--key", "tailnum=N1", "--yes")
    assert again.exit_code == 0
    assert "There is no such row." in again.stderr
    assert project.lake.pin(project.pipeline.repository) == head


def test_keys_come_from_a_file_in_the_type_of_their_column(project: Project) -> None:
    project.land("a", planes("N1", "N2", "N3"))
    (project.folder / "keys.csv").write_text("tailnum,seats\nN1,150\nN2,151\n")
    found = project.read(*FORGET, "--keys", str(project.folder / "keys.csv"), "--yes")
    assert found["found"]["rows"] == {"planes": 1}
    assert project.rows() == {"N2", "N3"}
    wrong = project.run(*FORGET, "--key", "seats=many", "--yes").exception
    assert isinstance(wrong, Refused)
    assert "'many' cannot be a value of seats, which is Float64" in str(wrong)
    assert "has no column tail" in str(project.run(*FORGET, "--key", "tail=N1").exception)


def test_a_batch_that_waits_for_ingest_is_never_dropped(project: Project) -> None:
    project.land("a", planes("N1"))
    content = {"part-0.parquet": parquet(planes("N2"))}
    deliver(project.lake, project.pipeline.repository, "planes", "fresh", content)
    refused = project.run(*FORGET, "--key", "tailnum=N2", "--yes").exception
    assert isinstance(refused, Refused)
    assert "landing/planes/fresh has such rows and waits for ingest" in str(refused)
    states = {b["id"]: b["state"] for b in project.read("data", "batches")["batches"]}
    assert states == {"a": "merged", "fresh": "waiting"}


def test_expire_forgets_what_is_past_its_retention_and_keeps_the_rest(project: Project) -> None:
    name = f"kept_{project.pipeline.name.replace('-', '_')}"
    (project.folder / f"{name}.py").write_text(
        "from dataclasses import replace\n"
        "from datetime import timedelta\n"
        "from examples.flights.pipeline import pipeline as flights\n"
        "weather = replace(flights.dataset('weather'), retention=timedelta(days=30))\n"
        f"pipeline = replace(flights, name={project.pipeline.name!r}, datasets=(weather,))\n"
    )
    now = datetime.now(UTC).replace(microsecond=0)
    at = [now - timedelta(days=31), now - timedelta(days=29)]
    weather = pl.DataFrame({"origin": "JFK", "observed_at": at, "temp_f": 50.0}).with_columns(
        pl.col("observed_at").cast(pl.Datetime("us", "UTC"))
    )
    commit_once(
        project.lake,
        Job(project.pipeline.repository, "ingest", "8" * 64),
        lambda run: run.append("weather", weather),
    )
    command = ("data", "expire", "--pipeline", f"{name}:pipeline", "--yes")
    (found,) = project.read(*command)
    assert (found["dataset"], found["found"]["rows"]) == ("weather", {"weather": 1})
    left = tables.scan(project.lake, project.lake.pin(project.pipeline.repository), "weather")
    assert left.collect()["observed_at"].to_list() == [at[1]]
    assert "There is no such row." in project.run(*command).stderr


def test_expire_needs_a_retention_and_says_where_to_state_it(project: Project) -> None:
    project.land("a", planes("N1"))
    assert "No dataset" in project.run("data", "expire").stderr
    refused = project.run("data", "expire", "planes").exception
    assert isinstance(refused, Misconfigured)
    assert "retention" in refused.remedy


def test_runs_are_listed_newest_first_and_shown_whole(project: Project) -> None:
    project.land("a", planes("N1"))
    project.land("b", planes("N2", "N3"))
    found = project.read("runs", "--stage", "ingest")
    assert [one["details"]["batch"] for one in found] == ["b", "a"]
    assert len(project.read("runs", "-n", "1")) == 1
    whole = project.read("runs", "show", found[0]["run_id"][:10])
    assert whole["counts"]["kept"] == 2
    assert whole == found[0]
    lines = project.run("runs").stdout.splitlines()
    assert len(lines) == 3
    assert found[0]["run_id"][:12] in lines[1]


def test_an_unknown_run_is_not_found(project: Project) -> None:
    assert isinstance(project.run("runs", "show", "feed").exception, NotFound)


Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def headrace(project: Project) -> Start:
    def start(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=os.environ | project.environment | changed,
            cwd=project.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def assert_two_lines(done: subprocess.CompletedProcess[str], problem: str, remedy: str) -> None:
    first, second = done.stderr.splitlines()
    assert done.returncode == 1
    assert done.stdout == ""
    assert first.startswith("problem: ")
    assert problem in first
    assert second.startswith("remedy: ")
    assert remedy in second


def test_an_unknown_ref_is_two_lines(headrace: Start) -> None:
    done = headrace("data", "ls", "--on", "nowhere")
    assert_two_lines(done, "no branch, tag or commit 'nowhere'", "headrace data branch")


def test_a_lake_that_is_down_is_two_lines(headrace: Start) -> None:
    done = headrace("data", "ls", LAKEFS_ENDPOINT="http://127.0.0.1:9")
    assert_two_lines(done, "No answer from lakeFS at http://127.0.0.1:9", "headrace up")


def test_a_wrong_key_is_two_lines(headrace: Start) -> None:
    done = headrace("data", "ls", LAKEFS_SECRET_ACCESS_KEY="wrong")
    assert_two_lines(done, "does not accept the access key", "LAKEFS_SECRET_ACCESS_KEY")


def test_a_pipeline_that_was_never_run_is_two_lines(headrace: Start, project: Project) -> None:
    (project.folder / "unborn.py").write_text(
        "from dataclasses import replace\n"
        "from examples.flights.pipeline import pipeline as flights\n"
        f"pipeline = replace(flights, name='u{uuid.uuid4().hex[:10]}')\n"
    )
    done = headrace("data", "ls", "--pipeline", "unborn:pipeline")
    assert_two_lines(done, "has no repository u", "headrace demo")


def test_gc_lists_dead_run_branches_landed_batches_and_files_of_old_versions(
    project: Project,
) -> None:
    repository = project.pipeline.repository
    project.land("2013-01", planes("N1", "N2"))
    before = project.lake.pin(repository).commit
    project.land("2013-02", planes("N3"))
    assert project.read("data", "gc", "--dry-run") == []
    undo = ("planes", "--to", before, "--reason", "test", "--yes")
    assert project.run("data", "rollback", *undo).exit_code == 0
    dead = "run-ingest-0123456789ab-5000000001234567"
    project.lake.fs.create_branch(repository, dead, source="main", hidden=True)
    found = project.read("data", "gc", "--dry-run", "--older-than", "0")
    by_name = {(one["kind"], one["name"]): one for one in found}
    assert set(by_name) == {
        ("run branch", f"{repository}/{dead}"),
        ("batch", "landing/planes/2013-01"),
        ("table files", "planes"),
    }
    assert by_name["batch", "landing/planes/2013-01"]["objects"] == 2
    assert by_name["table files", "planes"]["objects"] == 1
    assert all(one["octets"] > 100 for one in found if one["kind"] != "run branch")
    assert project.rows() == {"N1", "N2"}
    assert dead in project.lake.fs.branches(repository, prefix="run-", hidden=True)


def test_gc_without_dry_run_removes_nothing_and_says_so(project: Project) -> None:
    done = project.run("data", "gc")
    assert isinstance(done.exception, Misconfigured)
    assert "--dry-run" in str(done.exception)
