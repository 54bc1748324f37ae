"""A forgetting waits for its purge, and what is shown still is never erased."""

from datetime import UTC, datetime, timedelta

import polars as pl

from storage import tables
from storage.forgetting.forget import ForgetDetails, forget
from storage.forgetting.purge import PurgeDetails, purge, waiting
from storage.forgetting.selection import ByKey
from storage.lake import Lake
from storage.runs import Job, Outcome, commit_once, records

DUE = datetime(2026, 1, 2, tzinfo=UTC)


def add(lake: Lake, repo: str, *people: str) -> None:
    frame = pl.DataFrame({"person": people})
    run = records.run_id("ingest", *people)
    commit_once(lake, Job(repo, "ingest", run), lambda run: run.append("visits", frame))


def forget_person(lake: Lake, repo: str, who: str, due: datetime) -> Outcome:
    details = ForgetDetails(
        kind="key",
        dataset="visits",
        columns=("person",),
        reason=f"request of {due:%Y}",
        actor="me",
        purge_after=due,
    )
    return forget(lake, repo, ByKey(("person",), ((who,),)), request=who, details=details)


def test_what_was_forgotten_waits_the_first_due_first_until_it_is_purged(
    lake: Lake, repo: str
) -> None:
    add(lake, repo, "ann", "bob", "eve")
    late = forget_person(lake, repo, "ann", DUE + timedelta(days=1))
    soon = forget_person(lake, repo, "bob", DUE)
    rows = tables.scan(lake, lake.pin(repo), "visits").collect()
    assert rows["person"].to_list() == ["eve"]
    runs = [outcome.record.run_id for outcome in (soon, late)]
    assert [one.request.run_id for one in waiting(lake, repo)] == runs
    assert [one.due for one in waiting(lake, repo)] == [DUE, DUE + timedelta(days=1)]
    assert purge(lake, repo, now=DUE - timedelta(days=1), erase=lambda _: True) == []


def test_bytes_that_stay_leave_the_request_open(lake: Lake, repo: str) -> None:
    add(lake, repo, "ann", "bob")
    outcome = forget_person(lake, repo, "ann", DUE)
    (dry,) = purge(lake, repo, now=DUE, erase=lambda _: True, dry_run=True)
    assert (dry.erased, dry.is_done) == (0, False)
    assert dry.left
    # Whoever says that it erased is not believed: the lake is asked whether it can read them.
    (found,) = purge(lake, repo, now=DUE, erase=lambda _: True)
    assert (found.request, found.erased, found.is_done) == (outcome.record.run_id, 0, False)
    assert len(waiting(lake, repo)) == 1
    assert records.at(lake, lake.pin(repo), stage="purge") == []


def test_a_purge_s_record_names_its_request() -> None:
    said = PurgeDetails(request="a" * 64, reason="asked")
    assert said.to_json() == {"request": "a" * 64, "reason": "asked"}
