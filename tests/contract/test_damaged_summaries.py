"""What a compaction left is a hint: damaged, outdated or forged by a record, it costs time only."""

import json
import uuid
from collections.abc import Callable

import pytest

from storage.lake import Lake
from storage.runs import Job, commit_once, record_table, records
from storage.runs.compaction import compact
from storage.waiting_batches import OPEN_BATCHES, survey_all
from tests.contract.test_stock_model import Feed


@pytest.fixture
def feed(lake: Lake) -> Feed:
    """One batch landed; its state is what a rollback goes back to."""
    repo = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(repo)
    made = Feed(lake, repo)
    made.deliver(9)
    made.ingest(False)
    made.start = lake.fs.head(repo, "main")
    return made


def take_over(feed: Feed) -> None:
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)


def overwrite(feed: Feed, path: str, content: object) -> None:
    data = json.dumps(content).encode()
    job = Job(feed.repo, "edit", uuid.uuid4().hex * 2)
    commit_once(feed.lake, job, lambda run: run.replace(path, data))


@pytest.mark.parametrize("goes", [Feed.drop, Feed.refuse])
def test_a_repetition_of_what_was_reopened_waits_when_the_first_goes(
    feed: Feed, goes: Callable[[Feed, int], None]
) -> None:
    feed.deliver(1)
    feed.deliver(1)
    feed.ingest(False)
    take_over(feed)
    feed.roll_back(True)
    take_over(feed)
    feed.drop(1) if goes is Feed.drop else refuse_first(feed)
    assert [batch.id for batch in feed.survey().waiting] == ["b02"]


def refuse_first(feed: Feed) -> None:
    from storage import landing

    first = feed.survey().waiting[0]
    landing.refuse(feed.lake, first, {"rule": "no"})
    feed.refused.add(first.id)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (OPEN_BATCHES.path, {"format": 1, "state": {}}),
        (OPEN_BATCHES.path, {"format": 1}),
        (OPEN_BATCHES.path, {"format": 1, "state": []}),
        (OPEN_BATCHES.path, {"format": 1, "state": {"commit": "", "landing": "x", "open": {}}}),
        (records.COMPACTED.path, {"format": 1, "state": {"commit": "a" * 64}}),
        (records.COMPACTED.path, {"format": 1, "state": {"commit": 7}}),
    ],
)
def test_a_damaged_summary_is_no_summary(feed: Feed, path: str, content: object) -> None:
    feed.deliver(1)
    take_over(feed)
    overwrite(feed, path, content)
    head = feed.lake.pin(feed.repo)
    assert [batch.id for batch in feed.survey().waiting] == ["b01"]
    assert {r.path for r in records.at(feed.lake, head)} == {*records.list_paths(feed.lake, head)}
    take_over(feed)
    feed.check()


def test_what_is_no_record_stops_no_compaction(feed: Feed) -> None:
    take_over(feed)
    overwrite(feed, "metadata/strange/0.json", {})
    take_over(feed)
    feed.check()


def test_a_record_at_another_path_speaks_for_no_other_run(feed: Feed) -> None:
    head = feed.lake.pin(feed.repo)
    (honest,) = records.at(feed.lake, head, stage="ingest")
    forged = honest.superseded_by("f" * 64, may_run_again=True)
    overwrite(feed, "metadata/strange/0.json", json.loads(forged.to_json()))
    take_over(feed)
    head = feed.lake.pin(feed.repo)
    assert [r.superseded for r in records.at(feed.lake, head, stage="ingest")] == [None]
    landed = feed.lake.pin(feed.repo, "landing")
    assert survey_all(feed.lake, landed, head).waiting == ()


def test_a_row_goes_with_the_next_compaction_when_its_record_changed(feed: Feed) -> None:
    take_over(feed)
    head = feed.lake.pin(feed.repo)
    (honest,) = records.at(feed.lake, head, stage="ingest")
    body = json.loads(honest.to_json())
    overwrite(feed, honest.path, {**body, "details": {**body["details"], "batch": "nobody"}})
    assert compact(feed.lake, feed.repo, [OPEN_BATCHES]) is not None
    texts = record_table.read_rows(feed.lake, feed.lake.pin(feed.repo)).values()
    assert not any(b'"b00"' in text for text in texts)
