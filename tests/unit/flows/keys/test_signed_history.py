from datetime import UTC, datetime, timedelta
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.keys.signed_history import find_commit_at, find_signed_before
from security.formats.envelope import sign
from security.keys.pairs import Signer
from storage.lake import Pin
from tests.unit.fake_lake import MemoryFS, MemoryLake

REPOSITORY = "flights-releases"
START = MemoryFS().now_s
SIGNER = Signer.generate("releaser")


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(START + seconds, UTC)


def new_lake() -> MemoryLake:
    lake = MemoryLake()
    lake.create_pipeline("flights")
    return lake


def commit(lake: MemoryLake, path: str, data: bytes, *, seconds: int = 0) -> Pin:
    """One commit on main, by a merge as every run makes it, that bears this date."""
    fs = lake.fs
    fs.now_s = START + seconds
    fs.create_branch(REPOSITORY, "run", source="main")
    fs.put(REPOSITORY, "run", path, data)
    fs.commit(REPOSITORY, "run", message="x", metadata={})
    fs.merge(REPOSITORY, "run", into="main", message="x", metadata={})
    fs.delete_branch(REPOSITORY, "run")
    return lake.pin(REPOSITORY)


def signed(text: str, signer: Signer = SIGNER) -> bytes:
    return sign(text.encode(), "application/x", signer)


def test_only_an_unbroken_beginning_of_the_history_counts() -> None:
    """A commit that somebody dated back, behind a younger one, is not believed its date."""
    lake = new_lake()
    first = commit(lake, "a", b"1", seconds=10)
    commit(lake, "b", b"2", seconds=30)
    head = commit(lake, "c", b"3", seconds=5)
    assert find_commit_at(lake, head, at(20)) == first
    assert find_commit_at(lake, head, at(30)) == head
    assert find_commit_at(lake, head, at(-1)) is None


@settings(max_examples=20)
@given(dates=st.lists(st.integers(0, 9), max_size=6), moment=st.integers(0, 9))
def test_no_commit_that_counts_follows_a_younger_one(dates: list[int], moment: int) -> None:
    lake = new_lake()
    pins = [lake.pin(REPOSITORY)]
    for number, seconds in enumerate(dates):
        pins.append(commit(lake, f"{number}", b"x", seconds=seconds))
    older = [seconds <= moment for seconds in dates]
    expected = older.index(False) if False in older else len(dates)
    assert find_commit_at(lake, pins[-1], at(moment)) == pins[expected]


def test_what_came_in_by_a_merge_is_dated_by_the_merge() -> None:
    lake = new_lake()
    fs = lake.fs
    before = lake.pin(REPOSITORY)
    fs.create_branch(REPOSITORY, "run", source="main")
    fs.put(REPOSITORY, "run", "a", b"1")
    fs.commit(REPOSITORY, "run", message="dated back", metadata={})
    fs.now_s = START + 60
    fs.merge(REPOSITORY, "run", into="main", message="x", metadata={})
    assert find_commit_at(lake, lake.pin(REPOSITORY), at(30)) == before


def test_everything_that_the_key_signed_and_that_stood_there_is_found() -> None:
    lake, stranger = new_lake(), Signer.generate("releaser")
    commit(lake, "models/flights/1/release.dsse.json", signed("one"))
    commit(lake, "environments/production/index/1.json", signed("two"))
    for path, data in {
        "models/flights/1/gates.dsse.json": signed("of another", stranger),
        "models/flights/1/card.md": signed("no document"),
        "metadata/serve/x.json": signed("a record"),
        "candidates/x.json": b"{}",
    }.items():
        commit(lake, path, data)
    kept = commit(lake, "x.json", b"[]")
    commit(lake, "models/flights/2/release.dsse.json", signed("late"), seconds=60)
    early = find_signed_before(lake, SIGNER.public, at(30))
    assert [(one.path, one.digest, one.at) for one in early] == [
        ("environments/production/index/1.json", sha256(b"two").hexdigest(), kept),
        ("models/flights/1/release.dsse.json", sha256(b"one").hexdigest(), kept),
    ]
    now = {one.path for one in find_signed_before(lake, SIGNER.public, None)}
    assert now == {one.path for one in early} | {"models/flights/2/release.dsse.json"}
    assert find_signed_before(lake, SIGNER.public, at(0) - timedelta(days=1)) == []
    other = find_signed_before(lake, stranger.public, None)
    assert [one.path for one in other] == ["models/flights/1/gates.dsse.json"]


def test_every_pipelines_releases_are_searched_and_no_other_repository() -> None:
    lake = new_lake()
    commit(lake, "a.json", signed("one"))
    lake.create_pipeline("other")
    for repository in ("other", "other-releases"):
        lake.fs.create_branch(repository, "run", source="main")
        lake.fs.put(repository, "run", "b.json", signed("two"))
        lake.fs.commit(repository, "run", message="x", metadata={})
        lake.fs.merge(repository, "run", into="main", message="x", metadata={})
    found = find_signed_before(lake, SIGNER.public, None)
    assert [(one.at.repository, one.path) for one in found] == [
        ("flights-releases", "a.json"),
        ("other-releases", "b.json"),
    ]
