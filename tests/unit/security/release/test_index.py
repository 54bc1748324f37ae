import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from security.errors import BadKey, Untrusted
from security.policy.documents import sign_trust
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy
from security.release.index import (
    Canary,
    Index,
    NamedRelease,
    VerifiedIndex,
    sign_index,
    sign_timestamp,
    verify_index,
)

NOW = datetime(2013, 8, 1, 12, tzinfo=UTC)
ENVIRONMENT = "production"


def release(version: int) -> NamedRelease:
    return NamedRelease("delays", version, f"{version:064x}", f"models/delays/{version}")


def index(number: int, version: int, previous: str | None = None, **changes: Any) -> Index:
    given = {
        "environment": ENVIRONMENT,
        "number": number,
        "release": release(version),
        "previous": previous or (None if number == 1 else "00" * 32),
        "actor": "ana",
        "reason": "passed its canary",
        "created": "2013-08-01T12:00:00Z",
    }
    return Index(**{**given, **changes})


def verify(home: Any, signed: bytes, **changes: Any) -> VerifiedIndex:
    given = {
        "environment": ENVIRONMENT,
        "policy": home.policy,
        "floor": Floor(ENVIRONMENT),
        "now": NOW,
    }
    return verify_index(signed, **{**given, **changes})


def stamped(home: Any, current: VerifiedIndex, hours: int = 1) -> bytes:
    return sign_timestamp(
        current, created=NOW, expires=NOW + timedelta(hours=hours), signer=home.signers["timestamp"]
    )


def reissued(home: Any, **changes: Any) -> TrustPolicy:
    trust = dataclasses.replace(home.policy.trust, **changes)
    rules = (home.folder / "rules.dsse.json").read_bytes()
    return TrustPolicy.parse(sign_trust(trust, home.signers["root"]), rules, root=home.policy.root)


def test_a_fresh_index_verifies_with_its_canary_and_shadow(home: Any) -> None:
    wanted = index(1, 7, canary=Canary(release(8), 10), shadow=release(9))
    signed = sign_index(wanted, home.signers["releaser"])
    current = verify(home, signed)
    assert current.index == wanted
    assert current.fresh_until is None
    fresh = verify(home, signed, timestamp=stamped(home, current))
    assert fresh.fresh_until == NOW + timedelta(hours=1)


def test_an_index_below_the_floor_is_refused_and_a_rollback_is_not(home: Any) -> None:
    old = sign_index(index(1, 7), home.signers["releaser"])
    first = verify(home, old)
    new = sign_index(index(2, 8, first.digest), home.signers["releaser"])
    second = verify(home, new)
    floor = Floor(ENVIRONMENT).raise_to(home.policy, number=2, digest=second.digest, now=NOW)
    with pytest.raises(Untrusted, match="below the floor, 2"):
        verify(home, old, floor=floor)
    back = sign_index(index(3, 7, second.digest, reason="8 is worse"), home.signers["releaser"])
    assert verify(home, back, floor=floor).index.release.version == 7


def test_the_policys_minimum_holds_for_a_client_without_memory(home: Any) -> None:
    policy = reissued(home, minimum_index={ENVIRONMENT: 5})
    signed = sign_index(index(4, 7), home.signers["releaser"])
    with pytest.raises(Untrusted, match="below the floor, 5"):
        verify(home, signed, policy=policy)
    assert verify(home, sign_index(index(5, 7), home.signers["releaser"]), policy=policy)


def test_two_indexes_of_one_number_are_a_fork(home: Any) -> None:
    ours = verify(home, sign_index(index(2, 8), home.signers["releaser"]))
    floor = Floor(ENVIRONMENT).raise_to(home.policy, number=2, digest=ours.digest, now=NOW)
    theirs = sign_index(index(2, 9), home.signers["releaser"])
    with pytest.raises(Untrusted, match="two different indexes numbered 2"):
        verify(home, theirs, floor=floor)
    unrelated = sign_index(index(3, 9, "77" * 32), home.signers["releaser"])
    with pytest.raises(Untrusted, match="does not follow"):
        verify(home, unrelated, floor=floor)


def test_a_frozen_index_expires(home: Any) -> None:
    signed = sign_index(index(1, 7), home.signers["releaser"])
    stamp = stamped(home, verify(home, signed))
    late = NOW + timedelta(hours=1)
    with pytest.raises(Untrusted, match="expired at 2013-08-01T13:00:00Z"):
        verify(home, signed, timestamp=stamp, now=late)


def test_a_timestamp_of_another_index_is_refused(home: Any) -> None:
    first = sign_index(index(1, 7), home.signers["releaser"])
    second = sign_index(index(2, 8), home.signers["releaser"])
    newest = stamped(home, verify(home, second))
    with pytest.raises(Untrusted, match="names index 2, not 1"):
        verify(home, first, timestamp=newest)


def test_a_clock_set_back_is_refused(home: Any) -> None:
    signed = sign_index(index(1, 7), home.signers["releaser"])
    seen = verify(home, signed)
    floor = Floor(ENVIRONMENT).raise_to(home.policy, number=1, digest=seen.digest, now=NOW)
    with pytest.raises(Untrusted, match="clock says 2013-07-31"):
        verify(home, signed, floor=floor, now=NOW - timedelta(days=1))
    assert verify(home, signed, floor=floor, now=NOW - timedelta(minutes=1))


def test_an_older_policy_is_refused_once_a_newer_was_used(home: Any) -> None:
    signed = sign_index(index(1, 7), home.signers["releaser"])
    newer = reissued(home, version=2)
    floor = Floor(ENVIRONMENT).raise_to(
        newer, number=1, digest=verify(home, signed).digest, now=NOW
    )
    with pytest.raises(Untrusted, match="policy is older"):
        verify(home, signed, floor=floor)


def test_a_new_epoch_recovers_from_a_huge_number(home: Any) -> None:
    huge = verify(home, sign_index(index(2**53 - 1, 7), home.signers["releaser"]))
    floor = Floor(ENVIRONMENT).raise_to(
        home.policy, number=huge.index.number, digest=huge.digest, now=NOW
    )
    signed = sign_index(index(3, 8), home.signers["releaser"])
    with pytest.raises(Untrusted, match="below the floor"):
        verify(home, signed, floor=floor)
    rotated = reissued(home, version=2, epoch=2, minimum_index={ENVIRONMENT: 3})
    accepted = verify(home, signed, floor=floor, policy=rotated)
    raised = floor.raise_to(rotated, number=3, digest=accepted.digest, now=NOW)
    with pytest.raises(Untrusted, match="policy is older"):
        verify(home, signed, floor=raised)


def test_an_index_of_another_environment_is_refused(home: Any) -> None:
    signed = sign_index(index(1, 7, environment="staging"), home.signers["releaser"])
    with pytest.raises(Untrusted, match="for staging, not production"):
        verify(home, signed)


@pytest.mark.parametrize("role", ["trainer", "timestamp", "gatekeeper"])
def test_only_the_releaser_signs_indexes(home: Any, role: str) -> None:
    with pytest.raises(BadKey):
        sign_index(index(1, 7), home.signers[role])


def test_an_index_is_not_taken_for_a_timestamp(home: Any) -> None:
    signed = sign_index(index(1, 7), home.signers["releaser"])
    with pytest.raises(Untrusted, match="timestamp"):
        verify(home, signed, timestamp=signed)


def test_a_release_at_another_path_or_a_lost_predecessor_is_refused() -> None:
    with pytest.raises(Untrusted, match="another path"):
        NamedRelease("delays", 1, "ab" * 32, "models/delays/2")
    with pytest.raises(Untrusted, match="predecessor"):
        dataclasses.replace(index(2, 7), previous=None)
    with pytest.raises(Untrusted, match="99 percent"):
        Canary(release(1), 100)


def test_the_floor_survives_on_disk_and_only_rises(home: Any, tmp_path: Path) -> None:
    path = tmp_path / "floor.json"
    assert Floor.load(path, environment=ENVIRONMENT) == Floor(ENVIRONMENT)
    high = Floor(ENVIRONMENT).raise_to(home.policy, number=5, digest="ab" * 32, now=NOW)
    high.save(path)
    Floor(ENVIRONMENT).raise_to(home.policy, number=4, digest="cd" * 32, now=NOW).save(path)
    assert Floor.load(path, environment=ENVIRONMENT) == high
    earlier = high.raise_to(home.policy, number=6, digest="ef" * 32, now=NOW - timedelta(days=2))
    earlier.save(path)
    kept = Floor.load(path, environment=ENVIRONMENT)
    assert (kept.number, kept.seen_s) == (6, int(NOW.timestamp()))


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"environment":"production","number":0}x'])
def test_a_damaged_floor_is_not_taken_for_a_low_one(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "floor.json").write_bytes(damage)
    with pytest.raises(Untrusted):
        Floor.load(tmp_path / "floor.json", environment=ENVIRONMENT)


def test_the_floor_of_another_environment_is_refused(home: Any, tmp_path: Path) -> None:
    Floor("staging").raise_to(home.policy, number=5, digest="ab" * 32, now=NOW).save(tmp_path / "f")
    with pytest.raises(Untrusted, match="floor of staging"):
        Floor.load(tmp_path / "f", environment=ENVIRONMENT)
