"""Which batches wait, against a model: all that were sealed, not refused and not taken.

A survey from the last compaction's summary must agree with one that reads everything, whatever
feeds, ingests, rollbacks, compactions and people do in between, and on a branch as on main.
"""

import uuid
from dataclasses import dataclass, field

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from storage import landing
from storage.lake import LANDING, Lake
from storage.landing import Batch, IngestDetails, deliver, take_stock
from storage.runs import Job, Run, commit_once
from storage.runs.compaction import compact
from storage.versions.rollback import Request, roll_back
from storage.waiting_batches import (
    INGEST,
    OPEN_BATCHES,
    Stock,
    run_of,
    survey,
    survey_all,
)

TABLE = "numbers"
FIRST = 9
CONTENTS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("deliver"), CONTENTS),
    st.tuples(st.just("ingest"), st.booleans()),
    st.tuples(st.just("refuse"), CONTENTS),
    st.tuples(st.just("drop"), CONTENTS),
    st.tuples(st.just("roll back"), st.booleans()),
    st.tuples(st.just("compact"), st.none()),
)


@dataclass
class Feed:
    """A lake with one dataset, and what the model knows of it."""

    lake: Lake
    repo: str
    delivered: int = 0
    contents: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    taken: dict[int, bool] = field(default_factory=dict)
    start: str = ""

    def deliver(self, content: int) -> None:
        name = f"b{self.delivered:02}"
        self.delivered += 1
        deliver(self.lake, self.repo, TABLE, name, {"f": bytes([content])})
        self.contents[name] = content

    def survey(self) -> Stock:
        landed = take_stock(self.lake, self.repo)
        return survey(self.lake, landed, self.lake.pin(self.repo))

    def ingest(self, only_one: object) -> None:
        for batch in self.survey().waiting[: 1 if only_one else None]:
            self._take(batch)

    def _take(self, batch: Batch) -> None:
        content = self.contents[batch.id]

        def body(run: Run) -> None:
            run.append(TABLE, pl.DataFrame({"key": [content]}))
            run.describe(
                IngestDetails(dataset=TABLE, batch=batch.id, digest=batch.digest, rules={})
            )

        commit_once(self.lake, Job(self.repo, INGEST, run_of(batch)), body)
        self.taken[content] = True

    def refuse(self, content: int) -> None:
        for batch in self.survey().waiting:
            if self.contents[batch.id] == content:
                landing.refuse(self.lake, batch, {"rule": "no"})
                self.refused.add(batch.id)

    def drop(self, content: int) -> None:
        """A person takes the oldest delivery of a content off landing."""
        take_stock(self.lake, self.repo)
        for name, held in sorted(self.contents.items()):
            if held == content:
                for entry in self.lake.fs.objects(
                    self.repo, LANDING, prefix=f"landing/{TABLE}/{name}/"
                ):
                    self.lake.fs.delete(self.repo, LANDING, entry.path)
                del self.contents[name]
                return

    def roll_back(self, may_run_again: object) -> None:
        if not self.start:
            return
        to = self.lake.pin(self.repo, self.start)
        name = uuid.uuid4().hex
        request = Request(name, (TABLE,), to, "bad", "me", may_run_again=bool(may_run_again))
        roll_back(self.lake, request)
        # What landed before the commit that it goes back to stays.
        self.taken = {c: c == FIRST or not may_run_again for c in self.taken}

    def expect(self) -> set[int]:
        """Contents that some batch offers and no run has taken."""
        offered = {c for name, c in self.contents.items() if name not in self.refused}
        return {content for content in offered if not self.taken.get(content)}

    def check(self) -> None:
        landed = take_stock(self.lake, self.repo)
        head = self.lake.pin(self.repo)
        found, everything = survey(self.lake, landed, head), survey_all(self.lake, landed, head)
        assert {self.contents[b.id] for b in found.waiting} == self.expect()
        assert {run_of(b) for b in found.waiting} == {run_of(b) for b in everything.waiting}
        assert {b.path for b in found.waiting} <= {b.path for b in everything.unfinished}
        assert {b.path for b in found.unfinished} <= {b.path for b in everything.unfinished}


@settings(
    max_examples=8,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=4, max_size=10))
def test_a_survey_finds_what_reading_everything_finds(
    lake: Lake, steps: list[tuple[str, object]]
) -> None:
    repo = f"t-{uuid.uuid4().hex[:12]}"
    lake.create_pipeline(repo)
    feed = Feed(lake, repo)
    # The table exists, so that a rollback has somewhere to go.
    feed.deliver(FIRST)
    feed.ingest(False)
    feed.start = lake.fs.head(repo, "main")
    for step, value in steps:
        if step == "compact":
            compact(lake, repo, [OPEN_BATCHES], enough=1)
        else:
            getattr(feed, step.replace(" ", "_"))(value)
        feed.check()


@pytest.fixture
def feed(lake: Lake, repo: str) -> Feed:
    made = Feed(lake, repo)
    made.deliver(FIRST)
    made.ingest(False)
    made.start = lake.fs.head(repo, "main")
    return made


def test_a_delivery_while_a_survey_runs_is_found_by_the_next(feed: Feed) -> None:
    landed = take_stock(feed.lake, feed.repo)
    feed.deliver(1)
    head = feed.lake.pin(feed.repo)
    assert survey(feed.lake, landed, head).waiting == ()
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.deliver(2)
    feed.check()
    assert feed.expect() == {1, 2}


def test_a_repetition_is_tried_when_the_batch_that_landed_first_is_gone(feed: Feed) -> None:
    """The rollback's record names a batch that is not there; its content is, under another id."""
    feed.deliver(1)
    feed.deliver(1)
    feed.ingest(False)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.drop(1)
    feed.roll_back(True)
    feed.check()
    assert [batch.id for batch in feed.survey().waiting] == ["b02"]
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.check()


def test_what_a_rollback_undid_for_good_does_not_wait_again(feed: Feed) -> None:
    feed.deliver(1)
    feed.ingest(False)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.roll_back(False)
    assert feed.survey().waiting == ()
    feed.roll_back(True)
    assert [batch.id for batch in feed.survey().waiting] == ["b01"]


def test_a_branch_has_taken_what_main_has_not(feed: Feed) -> None:
    feed.deliver(1)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.lake.fs.create_branch(feed.repo, "mine", source="main")
    feed.ingest(False)
    landed = take_stock(feed.lake, feed.repo)
    assert survey(feed.lake, landed, feed.lake.pin(feed.repo)).waiting == ()
    (one,) = survey(feed.lake, landed, feed.lake.pin(feed.repo, "mine")).waiting
    assert one.id == "b01"


def test_a_lost_summary_means_a_full_survey(feed: Feed) -> None:
    feed.deliver(1)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)

    def damage(run: Run) -> None:
        run.replace(OPEN_BATCHES.path, b"{")

    commit_once(feed.lake, Job(feed.repo, "edit", "e" * 64), damage)
    assert [batch.id for batch in feed.survey().waiting] == ["b01"]


def test_a_batch_of_a_known_id_that_was_dropped_and_delivered_anew_waits(feed: Feed) -> None:
    feed.deliver(1)
    feed.ingest(False)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.drop(1)
    take_stock(feed.lake, feed.repo)
    feed.delivered -= 1
    feed.deliver(2)
    assert [batch.id for batch in feed.survey().waiting] == ["b01"]
    feed.check()


def test_only_what_is_new_is_asked_for(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in range(1, 6):
        feed.deliver(content)
    feed.ingest(False)
    compact(feed.lake, feed.repo, [OPEN_BATCHES], enough=1)
    feed.deliver(7)
    landed, head = take_stock(feed.lake, feed.repo), feed.lake.pin(feed.repo)
    read: list[str] = []
    get = feed.lake.fs.get
    monkeypatch.setattr(feed.lake.fs, "get", lambda *at: read.append(at[-1]) or get(*at))
    assert [batch.id for batch in survey(feed.lake, landed, head).waiting] == ["b06"]
    assert len(read) == 3  # the summary, one seal, and the record that is not there
