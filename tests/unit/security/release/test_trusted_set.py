"""The order of trust: what may be called after what, and that a refusal ends a reading."""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from security.errors import Untrusted
from security.keys.pairs import Signer
from security.policy.documents import sign_trust
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy
from security.release.index import Canary, Index, NamedRelease, sign_index, sign_timestamp
from security.release.trusted_set import GRACE, Stage, TrustedSet

NOW = datetime(2013, 8, 1, 12, tzinfo=UTC)
CREATED = "2013-08-01T12:00:00Z"
CALLS = ("policy", "index", "timestamp", "floor", "release", "open")
# The whole order, and where a call may be made.
AFTER: dict[str, set[Stage]] = {
    "policy": {Stage.ROOT},
    "index": {Stage.POLICY},
    "timestamp": {Stage.INDEX},
    "floor": {Stage.INDEX, Stage.TIMESTAMP},
    "release": {Stage.FLOOR},
    "open": {Stage.FLOOR},
}
REACHED = {
    "policy": Stage.POLICY,
    "index": Stage.INDEX,
    "timestamp": Stage.TIMESTAMP,
    "floor": Stage.FLOOR,
    "release": Stage.FLOOR,
    "open": Stage.FLOOR,
}


class Reading:
    """A trusted set over a good release, and every call that there is, with good arguments."""

    def __init__(self, home: Any, released: Any, folder: Path, **changes: Any) -> None:
        self.home, self.released, self.folder = home, released, folder
        self.named = NamedRelease.of(released.release)
        first = Index("production", 1, self.named, "ana", "passed", CREATED)
        self.envelope = sign_index(dataclasses.replace(first, **changes), home.signers["releaser"])
        self.set = TrustedSet(home.policy.root, now=NOW)
        self.opened = 0

    def call(self, name: str) -> Any:
        calls: dict[str, Callable[[], Any]] = {
            "policy": lambda: self.set.trust_policy(self.home.policy),
            "index": lambda: self.set.trust_index(
                self.envelope, environment="production", floor=self.floor()
            ),
            "timestamp": lambda: self.set.judge_freshness(None),
            "floor": lambda: self.set.raise_floor(self.folder / "floor.json"),
            "release": lambda: self.set.verify_release(self.released.folder, self.named),
            "open": self._open,
        }
        return calls[name]()

    def floor(self) -> Floor:
        return Floor.load(self.folder / "floor.json", environment="production")

    def _open(self) -> Path:
        self.opened += 1
        into = self.folder / f"plain-{self.opened}"
        return self.set.open_payload(self.named, recipient=self.home.recipient, into=into)


@pytest.fixture
def reading(home: Any, released: Any, tmp_path: Path) -> Reading:
    return Reading(home, released, tmp_path)


def check_against_model(reading: Reading, calls: tuple[str, ...]) -> None:
    """Each call passes exactly where the order allows it."""
    stage, verified = Stage.ROOT, False
    for name in calls:
        if stage in AFTER[name] and (name != "open" or verified):
            reading.call(name)
            stage, verified = REACHED[name], verified or name == "release"
        else:
            with pytest.raises(RuntimeError, match="out of the order of trust"):
                reading.call(name)
            if stage in AFTER[name]:
                stage = Stage.REFUSED
        assert reading.set.stage == stage


def test_the_whole_order_ends_with_plain_files_and_a_floor(reading: Reading) -> None:
    check_against_model(reading, CALLS)
    assert (reading.folder / "plain-1" / "reference.json").read_bytes() == b'{"rows":1}'
    assert reading.floor().number == 1
    assert reading.set.index.index.release == reading.named


@pytest.mark.parametrize("reached", range(len(CALLS)))
@pytest.mark.parametrize("name", CALLS)
def test_no_call_out_of_order_passes(reading: Reading, reached: int, name: str) -> None:
    check_against_model(reading, (*CALLS[:reached], name))


@pytest.mark.parametrize("pair", list(itertools.pairwise(CALLS)), ids="-".join)
def test_no_step_but_the_timestamp_can_be_left_out(reading: Reading, pair: tuple[str, str]) -> None:
    check_against_model(reading, tuple(name for name in CALLS if name not in pair))


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(st.sampled_from(CALLS), max_size=8))
def test_any_sequence_of_calls_behaves_as_the_order_says(
    home: Any, released: Any, calls: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_against_model(Reading(home, released, Path(folder)), tuple(calls))


def test_a_refusal_ends_the_set(reading: Reading) -> None:
    reading.call("policy")
    with pytest.raises(Untrusted, match="for production, not staging"):
        reading.set.trust_index(reading.envelope, environment="staging", floor=Floor("staging"))
    for name in CALLS:
        with pytest.raises(RuntimeError, match="out of the order of trust"):
            reading.call(name)
    with pytest.raises(RuntimeError, match="no verified policy"):
        _ = reading.set.policy


def test_a_policy_of_another_root_is_refused(home: Any) -> None:
    other = Signer.generate("root")
    trusted = TrustedSet(other.public, now=NOW)
    with pytest.raises(Untrusted, match="not signed by the pinned root"):
        trusted.trust_policy(home.policy)


def test_the_newest_of_the_editions_counts(home: Any) -> None:
    trust = dataclasses.replace(home.policy.trust, version=home.policy.trust.version + 1)
    rules = (home.folder / "rules.dsse.json").read_bytes()
    root = home.policy.root
    newer = TrustPolicy.parse(sign_trust(trust, home.signers["root"]), rules, root=root)
    for known in itertools.permutations((home.policy, newer)):
        trusted = TrustedSet(root, now=NOW)
        assert trusted.trust_policy(*known) is newer
        assert trusted.policy is newer


def test_an_index_without_a_timestamp_is_fresh_for_a_day(reading: Reading, home: Any) -> None:
    reading.set = TrustedSet(home.policy.root, now=NOW + GRACE - timedelta(seconds=1))
    for name in ("policy", "index"):
        reading.call(name)
    found = reading.call("timestamp")
    assert (found.until, found.stale) == (NOW + GRACE, "")


def test_a_stale_index_is_followed_only_by_who_followed_it_before(
    reading: Reading, home: Any
) -> None:
    late = NOW + GRACE
    for _ in range(2):
        reading.set = TrustedSet(home.policy.root, now=late)
        for name in ("policy", "index"):
            reading.call(name)
        if reading.floor().digest is None:
            with pytest.raises(Untrusted, match="index 1 has no timestamp"):
                reading.call("timestamp")
            reading.set = TrustedSet(home.policy.root, now=NOW)
            for name in ("policy", "index", "timestamp", "floor"):
                reading.call(name)
    assert reading.call("timestamp").stale == "index 1 has no timestamp"


def test_an_expired_timestamp_is_stale_and_says_so(reading: Reading, home: Any) -> None:
    for name in ("policy", "index", "floor"):
        reading.call(name)
    stamp = sign_timestamp(
        reading.set.index,
        created=NOW,
        expires=NOW + timedelta(hours=1),
        signer=home.signers["timestamp"],
    )
    for late, until in ((timedelta(0), NOW + timedelta(hours=1)), (timedelta(hours=1), None)):
        reading.set = TrustedSet(home.policy.root, now=NOW + late)
        for name in ("policy", "index"):
            reading.call(name)
        found = reading.set.judge_freshness(stamp)
        assert found.until == until
        assert ("expired at 2013-08-01T13:00:00Z" in found.stale) == (until is None)


def test_the_floor_does_not_rise_before_it_is_told_to(reading: Reading) -> None:
    for name in ("policy", "index", "timestamp"):
        reading.call(name)
        assert reading.floor() == Floor("production")
    reading.call("floor")
    assert reading.floor().digest == reading.set.index.digest


def test_a_release_that_the_index_does_not_name_is_refused(reading: Reading) -> None:
    for name in ("policy", "index", "floor"):
        reading.call(name)
    other = dataclasses.replace(reading.named, digest="ab" * 32)
    with pytest.raises(Untrusted, match="does not name this release"):
        reading.set.verify_release(reading.released.folder, other)


def test_a_release_of_another_digest_than_the_index_names_is_refused(
    home: Any, released: Any, tmp_path: Path
) -> None:
    other = dataclasses.replace(NamedRelease.of(released.release), digest="ab" * 32)
    reading = Reading(home, released, tmp_path, release=other)
    for name in ("policy", "index", "floor"):
        reading.call(name)
    with pytest.raises(Untrusted, match="not the one that the index names"):
        reading.set.verify_release(released.folder, other)


def test_a_canary_is_verified_as_the_release_is_and_each_step_is_told(
    home: Any, released: Any, tmp_path: Path
) -> None:
    named = NamedRelease.of(released.release)
    reading = Reading(home, released, tmp_path, canary=Canary(named, 10))
    for name in ("policy", "index", "floor"):
        reading.call(name)
    numbers: list[int] = []
    reading.set.verify_release(
        released.folder, named, on_passed=lambda step: numbers.append(step.number)
    )
    assert numbers == list(range(1, 10))
