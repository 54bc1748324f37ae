"""Months of flights at the gate: what is refused, quarantined, or lands exactly once."""

import io
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from examples.flights.feed import delivery
from examples.flights.pipeline import pipeline as flights
from flows.ingest.land import Landed, land, survey
from flows.ingest.validate import Checked, check_batch
from flows.pipeline import Pipeline
from storage import tables
from storage.errors import NotFound
from storage.lake import LANDING, Lake, Pin
from storage.landing import Batch, batches, deliver, take_stock
from storage.runs import records
from storage.versions.rollback import Request, roll_back

ROWS = 200
TIMES = ("scheduled_departure", "scheduled_arrival")


def month(number: int, rows: int = ROWS) -> pl.DataFrame:
    return delivery(number)["flights"].head(rows)


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Site:
    """One pipeline in its lake, and its flights feed."""

    lake: Lake
    pipeline: Pipeline

    @property
    def head(self) -> Pin:
        return self.lake.pin(self.pipeline.repository)

    def deliver(self, batch: str, frame: pl.DataFrame | bytes) -> None:
        data = frame if isinstance(frame, bytes) else parquet(frame)
        files = {"part-0.parquet": data}
        deliver(self.lake, self.pipeline.repository, "flights", batch, files)

    def waiting(self) -> list[Batch]:
        stock = take_stock(self.lake, self.pipeline.repository)
        return list(survey(self.lake, self.pipeline, stock).waiting)

    def stock(self) -> dict[str, Batch]:
        stock = take_stock(self.lake, self.pipeline.repository)
        return {batch.id: batch for batch in batches(self.lake, stock)}

    def land_all(self) -> list[Landed]:
        return [land(self.lake, self.pipeline, batch) for batch in self.waiting()]

    def land(self, batch: str, frame: pl.DataFrame | bytes) -> Landed:
        self.deliver(batch, frame)
        (landed,) = self.land_all()
        return landed

    def rows(self, table: str = "flights") -> pl.DataFrame:
        return tables.scan(self.lake, self.head, table).collect()

    def records(self) -> list[records.Record]:
        return records.at(self.lake, self.head, stage="ingest")

    def reason_on_landing(self, batch: str) -> dict[str, str]:
        path = f"landing/flights/{batch}/_REFUSED"
        found: dict[str, str] = json.loads(
            self.lake.fs.get(self.pipeline.repository, LANDING, path)
        )
        return found


@pytest.fixture
def site(lake: Lake) -> Site:
    name = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(name)
    return Site(lake, replace(flights, name=name))


def _text_for_a_number() -> bytes:
    return parquet(month(1).with_columns(pl.col("distance_mi").cast(pl.String)))


def _one_column_less() -> bytes:
    return parquet(month(1).drop("dest"))


def _one_column_more() -> bytes:
    return parquet(month(1).with_columns(gate=pl.lit("B22")))


def _half_written() -> bytes:
    whole = parquet(month(1))
    return whole[: len(whole) // 2]


def _no_time_zone() -> bytes:
    return parquet(month(1).with_columns(pl.col(TIMES).dt.replace_time_zone(None)))


def _column_gone_silent() -> bytes:
    return parquet(month(1).with_columns(tailnum=pl.lit(None, dtype=pl.String)))


def _every_tenth_row_bad() -> bytes:
    wrong = pl.int_range(pl.len()) % 10 == 0
    damaged = pl.when(wrong).then(-1.0).otherwise("distance_mi")
    return parquet(month(1).with_columns(distance_mi=damaged))


# What arrives, and the rule, the column and the words with figures that the refusal must give.
BAD: dict[str, tuple[Callable[[], bytes], str, str, str]] = {
    "text for a number": (_text_for_a_number, "dtype", "distance_mi", "is String"),
    "a column less": (_one_column_less, "column_missing", "dest", "has no column dest"),
    "a column more": (_one_column_more, "column_extra", "gate", "has a column gate"),
    "an empty file": (lambda: b"", "readable", "", "is empty: 0 bytes"),
    "half a file": (_half_written, "readable", "", f"({len(_half_written())} bytes) cannot be"),
    "no time zone": (_no_time_zone, "time_zone", TIMES[0], "the contract says"),
    "a silent column": (_column_gone_silent, "all_null", "tailnum", f"all {ROWS} rows"),
    "too many bad rows": (
        _every_tenth_row_bad,
        "distance_mi|min",
        "distance_mi",
        f"{ROWS // 10} of {ROWS} rows",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_name_and_main_is_untouched(site: Site, kind: str) -> None:
    make, rule, column, words = BAD[kind]
    before = site.head
    refused = site.land("2013-01", make())
    assert refused.outcome == "refused"
    assert refused.rules == {rule: 1}
    assert words in refused.reason
    assert site.head == before
    reason = site.reason_on_landing("2013-01")
    assert (reason["rule"], reason["column"]) == (rule, column)
    assert reason["problem"] == refused.reason
    # It is passed over from now on, and a correction lands under an id of its own.
    assert site.waiting() == []
    corrected = site.land("2013-01-corrected", month(1))
    assert (corrected.outcome, corrected.kept) == ("merged", ROWS)
    assert site.rows().height == ROWS


def test_a_good_batch_lands_beside_a_refused_one(site: Site) -> None:
    site.deliver("2013-01", _half_written())
    site.deliver("2013-02", month(2))
    assert [one.outcome for one in site.land_all()] == ["refused", "merged"]
    assert [r.details["batch"] for r in site.records()] == ["2013-02"]


def test_a_batch_whose_bytes_changed_after_the_seal_is_refused(site: Site) -> None:
    site.deliver("2013-01", month(1))
    path = "landing/flights/2013-01/part-0.parquet"
    flipped = bytearray(parquet(month(1)))
    flipped[len(flipped) // 2] ^= 1
    site.lake.fs.put(site.pipeline.repository, LANDING, path, bytes(flipped))
    before = site.head
    (refused,) = site.land_all()
    assert refused.rules == {"seal": 1}
    assert site.head == before
    assert site.reason_on_landing("2013-01")["rule"] == "seal"


def test_bad_rows_are_quarantined_by_rule_and_every_row_is_counted(site: Site) -> None:
    row = pl.int_range(pl.len())
    damaged = month(1).with_columns(
        distance_mi=pl.when(row == 3).then(-1.0).otherwise("distance_mi"),
        origin=pl.when(row == 5).then(pl.lit("jfk")).otherwise("origin"),
        scheduled_arrival=pl.when(row == 7)
        .then("scheduled_departure")
        .otherwise("scheduled_arrival"),
    )
    landed = site.land("2013-01", pl.concat([damaged, damaged.tail(4)]))
    rules = {"distance_mi|min": 1, "origin|regex": 1, "arrives_after_departing": 1}
    assert dict(landed.rules) == rules
    assert (landed.delivered, landed.kept, landed.quarantined, landed.duplicates) == (
        ROWS + 4,
        ROWS - 3,
        3,
        4,
    )
    held = site.rows("quarantine/flights").sort("scheduled_departure", "flight_id")
    assert dict(held.select("_rule", "_column").iter_rows()) == {
        "distance_mi|min": "distance_mi",
        "origin|regex": "origin",
        "arrives_after_departing": "",
    }
    assert set(held["_batch"]) == {"2013-01"}
    kept = set(site.rows()["flight_id"])
    assert kept == set(month(1)["flight_id"]) - set(held["flight_id"])


def test_a_month_delivered_twice_is_one_and_its_record_names_the_first(site: Site) -> None:
    site.land("2013-01", month(1))
    before = site.head
    site.deliver("2013-01-again", month(1))
    assert site.waiting() == []
    again = site.stock()["2013-01-again"]
    assert land(site.lake, site.pipeline, again).outcome == "already merged"
    assert site.head == before
    assert [r.details["batch"] for r in site.records()] == ["2013-01"]


def test_a_month_delivered_again_with_other_content_counts_duplicates_alone(site: Site) -> None:
    site.land("2013-01", month(1))
    first = site.rows()
    landed = site.land("2013-01-b", month(1).with_columns(pl.col("distance_mi") + 1.0))
    assert (landed.delivered, landed.kept, landed.duplicates) == (ROWS, 0, ROWS)
    assert site.rows().equals(first)


def test_a_month_delivered_again_with_new_rows_adds_just_those(site: Site) -> None:
    site.land("2013-01", month(1))
    landed = site.land("2013-01-b", month(1, ROWS + 7))
    assert (landed.kept, landed.duplicates) == (7, ROWS)
    assert set(site.rows()["flight_id"]) == set(month(1, ROWS + 7)["flight_id"])


def assert_each_month_once(site: Site, months: list[int]) -> None:
    found = site.rows()["flight_id"]
    wanted = pl.concat([month(one) for one in months])["flight_id"]
    assert sorted(found) == sorted(wanted)
    standing = {r.details["batch"]: r.counts["kept"] for r in site.records()}
    assert standing == {f"2013-{one:02d}": ROWS for one in months}
    branches = site.lake.fs.branches(site.pipeline.repository, prefix="run-", hidden=True)
    assert branches == {}


def test_months_landed_by_threads_at_once_land_exactly_once(site: Site) -> None:
    months = [1, 2, 3, 4]
    for one in months:
        site.deliver(f"2013-{one:02d}", month(one))
    start = threading.Barrier(len(months))

    def take(batch: Batch) -> Landed:
        lake = Lake(site.lake.access)
        start.wait(30)
        return land(lake, site.pipeline, batch)

    with ThreadPoolExecutor(len(months)) as pool:
        landed = list(pool.map(take, site.waiting()))
    assert [one.outcome for one in landed] == ["merged"] * len(months)
    assert_each_month_once(site, months)


INGEST = """
import sys
from dataclasses import replace
from examples.flights.pipeline import pipeline
from flows.ingest.land import land, survey
from flows.settings import Settings
from flows.context import open_lake
from storage.landing import take_stock

name, batch = sys.argv[1:]
lake, flights = open_lake(Settings.load()), replace(pipeline, name=name)
stock = take_stock(lake, name)
found = [b for b in survey(lake, flights, stock).waiting if b.id.startswith(batch)]
print("ready", flush=True)
sys.stdin.readline()
for one in found:
    print(land(lake, flights, one).outcome)
"""


def start_ingest(site: Site, batch: str, folder: Path) -> subprocess.Popen[str]:
    access = site.lake.access
    key = {
        "LAKEFS_ENDPOINT": access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": access.secret_access_key,
        "HEADRACE_ROOT": str(folder),
    }
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, site.pipeline.name, batch],
        env=os.environ | key,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(*processes: subprocess.Popen[str]) -> list[tuple[int | None, str]]:
    """Let them go once all are ready; the exit code of each, and what it said it did."""
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0].strip() for one in processes]
    return [(one.returncode, words) for one, words in zip(processes, said, strict=True)]


def test_two_processes_land_two_months_at_once_exactly_once(site: Site, tmp_path: Path) -> None:
    site.deliver("2013-01", month(1))
    site.deliver("2013-02", month(2))
    both = [start_ingest(site, batch, tmp_path) for batch in ("2013-01", "2013-02")]
    assert race(*both) == [(0, "merged")] * 2
    assert_each_month_once(site, [1, 2])


def test_two_processes_with_the_same_month_land_it_once(site: Site, tmp_path: Path) -> None:
    site.deliver("2013-01", month(1))
    both = [start_ingest(site, "2013-01", tmp_path) for _ in range(2)]
    outcomes = race(*both)
    # The later attempt fences the earlier: one may be told so, never both, and never a double.
    assert (0, "merged") in outcomes
    site.land_all()
    assert_each_month_once(site, [1])


def test_an_ingest_under_way_replays_when_a_rollback_merges(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.land("2013-01", month(1))
    good = site.head
    site.land("2013-02", month(2))
    attempts: list[Pin] = []

    def check_while_somebody_rolls_back(*given: Any, **named: Any) -> Checked:
        attempts.append(site.head)
        checked = check_batch(*given, **named)
        if len(attempts) == 1:
            roll_back(site.lake, Request("r-1", ("flights",), good, "a bad month", "a person"))
        return checked

    monkeypatch.setattr("flows.ingest.land.check_batch", check_while_somebody_rolls_back)
    landed = site.land("2013-03", month(3))
    assert (landed.outcome, landed.kept) == ("merged", ROWS)
    assert len(attempts) == 2
    assert attempts[0] != attempts[1]
    wanted = pl.concat([month(1), month(3)])["flight_id"]
    assert sorted(site.rows()["flight_id"]) == sorted(wanted)
    assert {r.details["batch"] for r in site.records() if r.superseded} == {"2013-02"}
    assert site.waiting() == []


def test_a_refused_first_batch_makes_no_table(site: Site) -> None:
    site.land("2013-01", _half_written())
    with pytest.raises(NotFound):
        site.rows()
