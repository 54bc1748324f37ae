"""Open work is a fold: taking records one by one, or all at once, leaves the same."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.reconcile.open_work import (
    NewestRelease,
    find_overdue,
    fold,
    is_unpromoted,
)
from storage.runs import records
from storage.runs.records import Record

NOTHING: dict[str, Any] = {"unjudged": {}, "unregistered": {}, "newest": None}
NOW = datetime(2013, 7, 1, tzinfo=UTC)


def record(stage: str, run: str, minute: int, **details: Any) -> Record:
    at = (NOW + timedelta(minutes=minute)).isoformat()
    return Record(stage, run, "nonce", at, 0.1, "ab" * 32, details=details)


def story(name: str, minute: int, *, passed: bool, version: int, steps: int) -> list[Record]:
    """A candidate's life, as far as `steps` go."""
    said = {"branch": "main", "against": None, "release": f"flights/{version}"}
    every = [
        record("candidate", name, minute),
        record("gate", records.run_id("gate", name), minute + 1, candidate=name, passed=passed),
        record("register", records.run_id("r", name), minute + 2, candidate=name, **said),
        record("serve", f"s{name}", minute + 3, release=said["release"], environment="production"),
    ]
    return every[: min(steps, 4 if passed else 2)]


STORIES = st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=5)


@given(stories=STORIES, cuts=st.lists(st.integers(0, 20), max_size=4))
def test_records_fold_alike_in_whatever_portions(
    stories: list[tuple[bool, int]], cuts: list[int]
) -> None:
    news = [
        one
        for number, (passed, steps) in enumerate(stories)
        for one in story(f"c{number}", 10 * number, passed=passed, version=number + 1, steps=steps)
    ]
    state = NOTHING
    edges = sorted({0, len(news), *(cut for cut in cuts if cut < len(news))})
    for left, right in itertools.pairwise(edges):
        state = fold(state, news[left:right])
    assert state == fold(NOTHING, news)
    judged = {f"c{n}" for n, (_, steps) in enumerate(stories) if steps >= 2}
    assert state["unjudged"].keys() == {f"c{n}" for n in range(len(stories))} - judged
    passed_only = {f"c{n}" for n, (passed, steps) in enumerate(stories) if passed and steps == 2}
    assert state["unregistered"].keys() == passed_only


def test_the_newest_release_of_main_is_the_highest_version() -> None:
    first = story("a", 0, passed=True, version=9, steps=4)
    second = story("b", 10, passed=True, version=10, steps=3)
    state = fold(fold(NOTHING, first), second)
    assert state["newest"] == {
        "release": "flights/10",
        "candidate": "b",
        "against": None,
        "registered_at": second[2].started_at,
        "named_by": (),
    }
    assert fold(NOTHING, first)["newest"]["named_by"] == ("production",)


def test_a_release_of_a_branch_is_nobodys_newest() -> None:
    mine = record("register", "x", 0, candidate="a", branch="mine", against=None, release="f/1")
    assert fold(NOTHING, [mine])["newest"] is None


def test_only_what_waits_longer_than_the_grace_period_is_asked_for() -> None:
    waiting = {
        "young": (NOW - timedelta(seconds=30)).isoformat(),
        "old": (NOW - timedelta(hours=2)).isoformat(),
        "later": (NOW - timedelta(hours=1)).isoformat(),
        "unknown": "",
    }
    assert find_overdue(waiting, NOW) == ["later", "old"]


def test_a_release_is_promoted_only_against_the_champion_it_was_measured_against() -> None:
    at = (NOW - timedelta(hours=1)).isoformat()
    newest = NewestRelease("flights/2", "c", "digest", at, named_by=("staging",))
    assert is_unpromoted(newest, "production", "digest", NOW)
    assert not is_unpromoted(newest, "staging", "digest", NOW)
    assert not is_unpromoted(newest, "production", "another", NOW)
    assert not is_unpromoted(newest, "production", None, NOW)
    assert not is_unpromoted(newest, "production", "digest", NOW - timedelta(hours=1))
