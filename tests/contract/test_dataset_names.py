"""Tables and columns with names that somebody will choose, and tables without rows."""

from datetime import UTC, datetime

import polars as pl
import pytest

from flows.data.catalog import tables_at
from flows.data.difference import differences
from flows.data.history import log
from storage import tables
from storage.errors import Refused
from storage.forgetting.forget import ForgetDetails, forget
from storage.forgetting.selection import ByKey
from storage.lake import Lake
from storage.runs import Job, Run, commit_once
from storage.versions.merge_by_key import merge_branch
from storage.versions.rollback import Request, roll_back

COLUMNS = ["key", "a b", "a.b", 'quo"te', "CamelCase", "groß"]


@pytest.mark.parametrize("table", ["v1.2", "x_Y-z", "quarantine/v1.2"])
def test_every_operation_takes_the_name(lake: Lake, repo: str, table: str) -> None:
    def add(run: Run, *keys: int) -> None:
        rows = pl.DataFrame({name: list(keys) for name in COLUMNS})
        run.append(table, rows)

    good = commit_once(lake, Job(repo, "a", "a" * 64), lambda run: add(run, 1, 2)).pin
    assert tables.names(lake, repo, "main") == [table]
    lake.fs.create_branch(repo, "mine", source="main")
    handle = tables.open_table(lake, repo, "mine", table)
    handle.update(predicate="key = 1", updates={tables.quoted('quo"te'): "7"})
    lake.fs.commit(repo, "mine", message="by hand", metadata={})
    keys = {table: ("key",)}
    (found,) = differences(lake, good, lake.pin(repo, "mine"), keys=keys)
    assert (found.table, found.changed and found.changed.sample) == (table, ((1,),))
    merge_branch(lake, repo, "mine", keys=keys)
    rows = tables.scan(lake, lake.pin(repo), table).sort("key").collect()
    assert rows['quo"te'].to_list() == [7, 2]
    assert [entry.stage for entry in log(lake, lake.pin(repo), table=table, limit=9)] == [
        "merge",
        "a",
    ]
    roll_back(lake, Request("r", (table,), good, "why", "me"))
    rows = tables.scan(lake, lake.pin(repo), table).sort("key").collect()
    assert rows['quo"te'].to_list() == [1, 2]
    details = ForgetDetails(
        kind="key",
        dataset=table,
        columns=('quo"te',),
        reason="asked",
        actor="me",
        purge_after=datetime.now(UTC),
        releases=(),
        branches=(),
    )
    forget(lake, repo, ByKey(('quo"te',), (("2",),)), request="f", details=details)
    assert tables.scan(lake, lake.pin(repo), table).collect()["key"].to_list() == [1]


@pytest.mark.parametrize("table", ["with space", "größe", "a%20b", "../x", "a//b", ".hidden", ""])
def test_a_name_that_an_address_would_escape_is_refused_and_spoils_no_list(
    lake: Lake, repo: str, table: str
) -> None:
    rows = pl.DataFrame({"key": [1]})
    with pytest.raises(Refused, match="cannot be the name of a dataset"):
        commit_once(lake, Job(repo, "a", "a" * 64), lambda run: run.append(table, rows))
    assert tables.names(lake, repo, "main") == []
    lake.fs.create_branch(repo, "mine", source="main")
    tables.append(lake, repo, "mine", "plain", rows)
    lake.fs.put(repo, "mine", "tables/by hand/_delta_log/00000000000000000000.json", b"{}")
    lake.fs.commit(repo, "mine", message="by hand", metadata={})
    found = tables_at(lake, lake.pin(repo, "mine"))
    assert [(one.table, one.rows) for one in found] == [("by hand", None), ("plain", 1)]


def test_a_table_without_rows_is_a_table(lake: Lake, repo: str) -> None:
    rows = pl.DataFrame({"key": [1], "text": ["x"]})
    good = commit_once(lake, Job(repo, "a", "a" * 64), lambda run: run.append("t", rows)).pin

    def empty(run: Run) -> None:
        handle = tables.open_table(lake, repo, run.branch, "t")
        handle.delete()
        run.tables["t"] = handle.version()

    emptied = commit_once(lake, Job(repo, "a", "b" * 64), empty).pin
    assert tables.snapshot(lake, repo, "main", "t").rows == 0
    keys = {"t": ("key",)}
    (found,) = differences(lake, good, emptied, keys=keys)
    assert (found.removed and found.removed.count, found.drift) == (1, ())
    lake.fs.create_branch(repo, "mine", source="main")
    tables.append(lake, repo, "mine", "t", rows)
    lake.fs.commit(repo, "mine", message="by hand", metadata={})
    merge_branch(lake, repo, "mine", keys=keys)
    assert tables.snapshot(lake, repo, "main", "t").rows == 1
    roll_back(lake, Request("r", ("t",), emptied, "why", "me"))
    assert tables.snapshot(lake, repo, "main", "t").rows == 0
