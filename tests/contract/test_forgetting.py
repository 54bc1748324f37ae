"""Rows are forgotten everywhere and purged from old versions, on either lakeFS.

A real lakeFS keeps its bytes where this machine may not reach: there a purge lists what is left.
"""

import io
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import write_deltalake

from storage import tables
from storage.embedded.bytes.erasure import erase
from storage.errors import Damaged, Refused
from storage.forgetting.forget import ForgetDetails, forget, note, survey
from storage.forgetting.purge import Purge, purge, waiting
from storage.forgetting.selection import ByAge, ByKey
from storage.forgetting.traces import Search
from storage.lake import Lake, Pin
from storage.landing import batches, deliver, take_stock
from storage.runs import Job, Outcome, Run, commit_once, records
from storage.versions.rollback import Request, roll_back

NOW = datetime.now(UTC)
WHO = "the-person-to-forget"


def add(lake: Lake, repo: str, table: str, *people: str, on: str = "main") -> Outcome:
    frame = pl.DataFrame({"person": people, "note": [f"about {name}" for name in people]})
    return commit_once(
        lake,
        Job(repo, "ingest", records.run_id("ingest", table, *people), on=on),
        lambda run: run.append(table, frame),
    )


def people(lake: Lake, repo: str, table: str, ref: str = "main") -> set[str]:
    return set(tables.scan(lake, lake.pin(repo, ref), table).collect()["person"])


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


def forgotten(lake: Lake, repo: str, *names: str, on: str = "main", due: datetime = NOW) -> Outcome:
    selection = ByKey(("person",), tuple((name,) for name in names or (WHO,)))
    return forget(lake, repo, selection, request=str(names), details=asked(due), on=on)


def purged(lake: Lake, repo: str, *, now: datetime = NOW) -> list[Purge]:
    return purge(lake, repo, now=now, erase=erase)


def land(lake: Lake, repo: str, batch: str, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    deliver(lake, repo, "visits", batch, {"part-0.parquet": buffer.getvalue()})


def test_the_rows_go_from_every_table_that_has_the_column(lake: Lake, repo: str) -> None:
    for table in ("visits", "quarantine/visits", "predictions"):
        add(lake, repo, table, "someone else", WHO)
    commit_once(
        lake,
        Job(repo, "ingest", "e" * 64),
        lambda run: run.append("prices", pl.DataFrame({"price": [1]})),
    )
    outcome = forgotten(lake, repo)
    for table in ("visits", "quarantine/visits", "predictions"):
        assert people(lake, repo, table) == {"someone else"}
        assert outcome.record.counts[f"{table}:removed"] == 1
    assert "prices" not in outcome.record.tables


def test_no_byte_of_the_value_is_left_at_the_head(lake: Lake, repo: str) -> None:
    add(lake, repo, "visits", WHO)
    add(lake, repo, "visits", "someone else")
    outcome = forgotten(lake, repo)
    entries = lake.fs.objects(repo, outcome.pin.commit)
    data = {e.path: lake.fs.get(repo, outcome.pin.commit, e.path) for e in entries}
    assert not [path for path, content in data.items() if WHO.encode() in content]
    add(lake, repo, "visits", "one more")
    assert people(lake, repo, "visits") == {"someone else", "one more"}


def test_a_predicate_that_names_the_person_goes_from_the_log_too(lake: Lake, repo: str) -> None:
    add(lake, repo, "visits", WHO, "someone else")

    def body(run: Run) -> None:
        handle = tables.open_table(lake, repo, run.branch, "visits")
        handle.delete(f"person = '{WHO}'")
        run.tables["visits"] = handle.version()

    tried = commit_once(lake, Job(repo, "edit", "c" * 64), body).pin
    outcome = forgotten(lake, repo)
    head = outcome.pin.commit
    logs = [e.path for e in lake.fs.objects(repo, head, prefix="tables/visits/_delta_log/")]
    assert not [path for path in logs if WHO.encode() in lake.fs.get(repo, head, path)]
    assert people(lake, repo, "visits") == {"someone else"}
    add(lake, repo, "visits", "one more")
    assert people(lake, repo, "visits") == {"someone else", "one more"}
    noted = {
        (p.path.rsplit("/", 1)[-1], p.commit)
        for p in note(lake, outcome.pin, outcome.record.run_id)
    }
    assert ("00000000000000000001.json", tried.commit) in noted


def test_no_rollback_leads_to_before_rows_were_forgotten(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "visits", WHO, "someone else").pin
    after = forgotten(lake, repo).pin
    with pytest.raises(Refused, match="before rows were forgotten"):
        roll_back(lake, Request("r1", ("visits",), before, "why", "me"))
    add(lake, repo, "visits", "a bad delivery")
    roll_back(lake, Request("r2", ("visits",), after, "why", "me"))
    assert people(lake, repo, "visits") == {"someone else"}


def test_a_rollback_undoes_no_forgetting(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "prices", "someone").pin
    add(lake, repo, "visits", WHO, "someone else")
    outcome = forgotten(lake, repo)
    roll_back(lake, Request("r1", ("visits",), before, "why", "me"))
    assert people(lake, repo, "visits") == set()
    run = outcome.record.run_id
    stands = records.find(lake, repo, "main", stage="forget", run=run)
    assert stands == outcome.record


def test_files_that_a_rollback_left_behind_are_forgotten_too(lake: Lake, repo: str) -> None:
    good = add(lake, repo, "visits", "someone else").pin
    add(lake, repo, "visits", WHO)
    roll_back(lake, Request("r1", ("visits",), good, "why", "me"))
    search = Search(lake, repo, ByKey(("person",), ((WHO,),)))
    found = survey(lake, repo, search)
    assert (found.rows, found.lingering) == ({}, ("visits",))
    outcome = forgotten(lake, repo)
    assert outcome.record.counts == {"visits:removed": 0}
    assert survey(lake, repo, search).is_empty
    assert people(lake, repo, "visits") == {"someone else"}


def test_a_landed_batch_goes_whole_and_the_next_run_does_not_see_it(lake: Lake, repo: str) -> None:
    land(lake, repo, "b1", pl.DataFrame({"person": [WHO]}))
    deliver(lake, repo, "visits", "b2", {"part-0.parquet": b"torn"})
    outcome = forgotten(lake, repo)
    assert outcome.record.details["landed"] == ["landing/visits/b1"]
    assert [b.id for b in batches(lake, take_stock(lake, repo))] == ["b2"]
    search = Search(lake, repo, ByKey(("person",), ((WHO,),)))
    unreadable = {place.path for place in survey(lake, repo, search).traces.unreadable}
    assert unreadable == {"landing/visits/b2/part-0.parquet"}


CODED = {
    "categories": pl.Series([WHO, "someone"], dtype=pl.Categorical),
    "a closed list": pl.Series([WHO, "someone"], dtype=pl.Enum([WHO, "someone"])),
    "bytes": pl.Series([WHO.encode(), b"someone"]),
}


@pytest.mark.parametrize("people", CODED.values(), ids=CODED)
def test_a_refused_batch_that_codes_its_names_is_found(
    lake: Lake, repo: str, people: pl.Series
) -> None:
    land(lake, repo, "b1", pl.DataFrame({"person": people}))
    outcome = forgotten(lake, repo)
    assert outcome.record.details["landed"] == ["landing/visits/b1"]


def test_a_value_that_a_column_cannot_hold_hides_no_other(lake: Lake, repo: str) -> None:
    land(lake, repo, "b1", pl.DataFrame({"person": [7, 8]}))
    outcome = forgotten(lake, repo, WHO, "7")
    assert outcome.record.details["landed"] == ["landing/visits/b1"]


def test_what_is_of_no_searchable_type_is_named(lake: Lake, repo: str) -> None:
    land(lake, repo, "b1", pl.DataFrame({"person": [[WHO]]}))
    search = Search(lake, repo, ByKey(("person",), ((WHO,),)))
    unreadable = {place.path for place in survey(lake, repo, search).traces.unreadable}
    assert unreadable == {"landing/visits/b1/part-0.parquet"}


def test_a_purge_erases_old_versions_and_says_so_only_when_the_lake_cannot_read_them(
    lake: Lake, repo: str
) -> None:
    before = add(lake, repo, "visits", WHO, "someone else").pin
    forgotten(lake, repo)
    assert people(lake, repo, "visits", before.commit) == {WHO, "someone else"}
    (found,) = purged(lake, repo)
    if found.left:
        assert not found.is_done
        assert [one.request.run_id for one in waiting(lake, repo)] == [found.request]
        return
    assert (found.is_done, found.held) == (True, {})
    with pytest.raises(Damaged, match="cannot be read any more"):
        people(lake, repo, "visits", before.commit)
    with pytest.raises(Damaged, match="cannot be read any more"):
        roll_back(lake, Request("r1", ("visits",), before, "why", "me"))
    assert people(lake, repo, "visits") == {"someone else"}
    assert purged(lake, repo) == []
    assert waiting(lake, repo) == []


def test_a_version_whose_checkpoint_was_purged_is_damaged_too(lake: Lake, repo: str) -> None:
    add(lake, repo, "visits", WHO, "someone", repo)
    between = forgotten(lake, repo).pin
    forgotten(lake, repo, "someone")
    if any(one.left for one in purged(lake, repo)):
        return
    with pytest.raises(Damaged, match="cannot be read any more"):
        people(lake, repo, "visits", between.commit)
    assert people(lake, repo, "visits") == {repo}


def test_a_purge_waits_for_its_time(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "visits", WHO).pin
    forgotten(lake, repo, due=NOW + timedelta(days=30))
    assert purged(lake, repo, now=NOW + timedelta(days=29)) == []
    assert people(lake, repo, "visits", before.commit) == {WHO}
    assert len(purged(lake, repo, now=NOW + timedelta(days=31))) == 1


def test_what_a_branch_still_shows_is_not_erased_under_it(lake: Lake, repo: str) -> None:
    add(lake, repo, "visits", WHO)
    lake.fs.create_branch(repo, "mine", source="main")
    forgotten(lake, repo)
    (held,) = purged(lake, repo)
    assert not held.is_done
    assert set(held.held.values()) == {f"{repo}/mine"}
    assert people(lake, repo, "visits", "mine") == {WHO}
    forgotten(lake, repo, on="mine")
    assert people(lake, repo, "visits", "mine") == set()
    (done,) = purged(lake, repo)
    assert done.held == {}


def test_what_a_branch_alone_had_and_forgot_is_purged_with_the_rest(lake: Lake, repo: str) -> None:
    add(lake, repo, "visits", "someone else")
    lake.fs.create_branch(repo, "mine", source="main")
    before = add(lake, repo, "visits", WHO, repo, on="mine").pin
    request = forgotten(lake, repo, on="mine").record.run_id
    (found,) = purged(lake, repo)
    assert found.request == request
    if found.left:
        return
    assert found.is_done
    with pytest.raises(Damaged):
        people(lake, repo, "visits", before.commit)
    assert purged(lake, repo) == []
    lake.fs.create_branch(repo, "later", source="mine")
    assert waiting(lake, repo) == []


def test_a_dry_run_erases_nothing(lake: Lake, repo: str) -> None:
    before = add(lake, repo, "visits", WHO).pin
    forgotten(lake, repo)
    (found,) = purge(lake, repo, now=NOW, erase=erase, dry_run=True)
    assert found.left
    assert people(lake, repo, "visits", before.commit) == {WHO}


def test_what_is_in_no_reach_is_refused_and_main_is_untouched(lake: Lake, repo: str) -> None:
    head = add(lake, repo, "visits", "someone else").pin
    with pytest.raises(Refused, match="no such row"):
        forgotten(lake, repo)
    assert lake.pin(repo) == head


def test_an_ingest_that_merges_first_is_searched_as_well(
    lake: Lake, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(lake, repo, "visits", WHO)
    original, raced = Run.put, []

    def put_after_another_merge(self: Run, path: str, data: bytes) -> None:
        if path.startswith("forgotten/") and not raced:
            raced.append(add(lake, repo, "visits", "someone else", WHO))
        original(self, path, data)

    monkeypatch.setattr(Run, "put", put_after_another_merge)
    outcome = forgotten(lake, repo)
    assert outcome.record.counts == {"visits:removed": 2}
    assert people(lake, repo, "visits") == {"someone else"}


@pytest.mark.parametrize("zone", ["UTC", None])
def test_rows_past_a_moment_go_with_those_of_their_quarantine_alone(
    lake: Lake, repo: str, zone: str | None
) -> None:
    at = pl.Series([datetime(2013, 1, day) for day in (1, 2, 3)]).dt.replace_time_zone(zone)
    frame = pl.DataFrame({"at": at, "n": [1, 2, 3]})

    def body(run: Run) -> None:
        for table in ("visits", "quarantine/visits", "other"):
            run.append(table, frame)

    commit_once(lake, Job(repo, "ingest", "a" * 64), body)
    old = ByAge(
        "visits", "at", datetime(2013, 1, 2, 12, tzinfo=UTC), ("visits", "quarantine/visits")
    )
    outcome = forget(lake, repo, old, request="age", details=asked(NOW))
    assert outcome.record.counts == {"visits:removed": 2, "quarantine/visits:removed": 2}
    left = tables.scan(lake, lake.pin(repo), "visits").collect()
    assert left["n"].to_list() == [3]
    assert tables.scan(lake, lake.pin(repo), "other").collect().height == 3


@pytest.mark.parametrize("name", [WHO, "first: last"])
def test_a_partitioned_tables_partition_is_searched_and_forgotten(
    lake: Lake, repo: str, name: str
) -> None:
    def body(run: Run) -> None:
        write_deltalake(
            f"s3://{repo}/{run.branch}/tables/visits",
            pl.DataFrame({"person": [name, "someone else"], "n": [1, 2]}),
            partition_by=["person"],
            storage_options=lake.storage_options,
        )
        run.tables["visits"] = 0

    commit_once(lake, Job(repo, "ingest", "b" * 64), body)
    outcome = forgotten(lake, repo, name)
    assert people(lake, repo, "visits") == {"someone else"}
    head: Pin = lake.pin(repo)
    assert len([e for e in lake.fs.objects(repo, head.commit) if "person=" in e.path]) == 1
    places = note(lake, head, outcome.record.run_id)
    assert [p.path for p in places if "_delta_log" in p.path]
