"""A reply that never comes leaves open whether the call took effect; landing never doubles."""

import io
import uuid
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pytest

from examples.flights.pipeline import pipeline as flights
from flows.ingest.land import Landed, land, survey
from flows.pipeline import Pipeline
from storage import tables
from storage.errors import Unavailable
from storage.lake import Lake
from storage.lake.client import Access
from storage.landing import Batch, deliver, take_stock
from storage.runs import records

COMMIT = r"^POST .*/branches/run-ingest-[^/]+/commits$"
MERGE = r"^POST .*/refs/run-ingest-[^/]+/merge/main$"
# Every call that changes something, through either door, but none that only asks.
WRITES = r"^(PUT|DELETE|POST) "
PLANES = pl.DataFrame(
    {"tailnum": ["N1", "N2", "N3"], "year_built": 1999.0, "seats": 150.0, "engines": 2.0}
)


@dataclass(frozen=True)
class Site:
    """One delivered batch; `far` reaches the lake through the lossy network, `near` does not."""

    near: Lake
    far: Lake
    pipeline: Pipeline

    def deliver(self, frame: pl.DataFrame = PLANES) -> None:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        files = {"part-0.parquet": buffer.getvalue()}
        deliver(self.near, self.pipeline.repository, "planes", "2013-01", files)

    def waiting(self, lake: Lake) -> list[Batch]:
        return list(survey(lake, self.pipeline, take_stock(lake, self.pipeline.repository)).waiting)

    def land(self, lake: Lake) -> list[Landed]:
        return [land(lake, self.pipeline, batch) for batch in self.waiting(lake)]

    def assert_landed_once(self) -> None:
        repository = self.pipeline.repository
        pin = self.near.pin(repository)
        rows = tables.scan(self.near, pin, "planes").collect()
        assert sorted(rows["tailnum"]) == ["N1", "N2", "N3"]
        assert len(records.at(self.near, pin, stage="ingest")) == 1
        log = self.near.fs.log(repository, "main")
        assert sum(c.metadata.get("stage") == "ingest" for c in log) == 1

    def run_branches(self) -> dict[str, str]:
        return self.near.fs.branches(self.pipeline.repository, prefix="run-", hidden=True)


@pytest.fixture
def site(lake: Lake, network: Any) -> Site:
    return make_site(lake, network)


def make_site(lake: Lake, network: Any) -> Site:
    name = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(name)
    access = Access(network.endpoint, lake.access.access_key_id, lake.access.secret_access_key)
    made = Site(lake, Lake(access), replace(flights, name=name))
    made.deliver()
    return made


@pytest.mark.parametrize("call", [COMMIT, MERGE], ids=["commit", "merge"])
def test_a_lost_reply_of_the_last_calls_lands_once(site: Site, network: Any, call: str) -> None:
    network.lose(call)
    (landed,) = site.land(site.far)
    assert len(network.lost) == 1
    assert (landed.outcome, landed.kept) == ("merged", 3)
    assert len(network.heard) == 1, "a call that may have taken effect was sent twice"
    site.assert_landed_once()
    assert site.run_branches() == {}
    assert site.land(site.near) == []


@pytest.mark.parametrize("call", [COMMIT, MERGE], ids=["commit", "merge"])
def test_a_request_that_never_arrived_leaves_main_and_lands_next_time(
    site: Site, network: Any, call: str
) -> None:
    before = site.near.pin(site.pipeline.repository)
    network.lose(call, what="request")
    with pytest.raises(Unavailable):
        site.land(site.far)
    assert len(network.lost) == 1
    assert site.near.pin(site.pipeline.repository) == before
    (landed,) = site.land(site.near)
    assert landed.outcome == "merged"
    site.assert_landed_once()
    assert site.run_branches() == {}


@pytest.mark.parametrize("what", ["reply", "request"])
def test_whichever_write_is_lost_the_batch_lands_exactly_once(
    lake: Lake, network: Any, what: str
) -> None:
    lost = 0
    for nth in range(1, 100):
        site = make_site(lake, network)
        (batch,) = site.waiting(site.near)
        network.lose(WRITES, nth=nth, what=what)
        try:
            land(site.far, site.pipeline, batch)
        except Unavailable:
            # The run does not know; whoever starts it again finds out.
            land(site.near, site.pipeline, batch)
        site.assert_landed_once()
        assert land(site.near, site.pipeline, batch).outcome == "already merged"
        site.assert_landed_once()
        if not network.lost:
            break
        lost += 1
    assert lost >= 6, "branch, data, log, record, commit and merge are six calls at least"
    assert not network.lost, "the last round went without a loss"
