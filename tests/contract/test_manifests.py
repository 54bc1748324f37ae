"""The digest of what a table consists of, against the embedded lakeFS and a real one."""

import polars as pl

from storage import tables
from storage.lake import Lake
from storage.runs import Job, Outcome, commit_once, records
from storage.tables.manifests import manifests


def add(lake: Lake, repo: str, table: str, *keys: int) -> Outcome:
    frame = pl.DataFrame({"key": keys})
    return commit_once(
        lake,
        Job(repo, "ingest", records.run_id("ingest", table, str(keys))),
        lambda run: run.append(table, frame),
    )


def test_a_manifest_follows_the_tables_files_and_nothing_else(lake: Lake, repo: str) -> None:
    first = add(lake, repo, "numbers", 1, 2).pin
    other = add(lake, repo, "letters", 7).pin
    before = manifests(lake, first, ["numbers", "letters"])
    assert before.keys() == {"numbers"}
    after = manifests(lake, other, ["numbers", "letters"])
    assert after["numbers"] == before["numbers"] != after["letters"]
    more = add(lake, repo, "numbers", 3).pin
    assert manifests(lake, more, ["numbers"]) != before
    table = tables.open_table(lake, repo, "main", "numbers")
    assert len(table.file_uris()) == 2


def test_a_changed_row_changes_the_manifest(lake: Lake, repo: str) -> None:
    pin = add(lake, repo, "numbers", 1, 2).pin
    lake.fs.create_branch(repo, "edits", source=pin.commit)
    tables.open_table(lake, repo, "edits", "numbers").update(
        predicate="key = 1", updates={"key": "5"}
    )
    lake.fs.commit(repo, "edits", message="an edit", metadata={})
    edited = lake.pin(repo, "edits")
    assert manifests(lake, edited, ["numbers"]) != manifests(lake, pin, ["numbers"])
