"""What stands in an environment: its newest index, how old that may be, and what came before it."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from flows.trust.installation import Trusted
from security.errors import Untrusted
from security.formats.envelope import read_unverified_payload
from security.formats.strict_json import from_bytes
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy
from security.release.index import INDEX_TYPE, Index, VerifiedIndex, read_moment, verify_index
from security.release.trusted_set import GRACE
from storage import registry
from storage.lake import Lake, Pin


def read_standing_index(
    lake: Lake, pin: Pin, trusted: Trusted, environment: str
) -> VerifiedIndex | None:
    """The newest index, to be followed: signed once, though perhaps by a key revoked since.

    Floor and clock are judged as always; only an index that holds today raises the floor, or a
    revoked key could still sign a number that nobody can follow. None before the first.
    Raises: Untrusted.
    """
    try:
        return trusted.newest_index(lake, pin, environment)
    except Untrusted:
        lenient = replace(trusted, policy=trusted.policy.for_predecessor())
        return lenient.newest_index(lake, pin, environment, remember=False)


def signatures_hold(index: VerifiedIndex, lake: Lake, pin: Pin, trusted: Trusted) -> bool:
    """Whether today's policy accepts the signatures of an index that stands."""
    environment = index.index.environment
    envelope = registry.index(lake, pin, environment, index.index.number)
    try:
        verify_unseen(envelope, environment, trusted.policy)
    except Untrusted:
        return False
    return True


def read_history(lake: Lake, pin: Pin, newest: VerifiedIndex) -> list[Index]:
    """Every index up to `newest`, which is verified, oldest first.

    Each names its predecessor's digest, so that keys may have been revoked and thresholds raised
    since. Raises: Untrusted where one is not the one that its successor follows.
    """
    found = [newest.index]
    while found[0].previous is not None:
        number, digest = found[0].number - 1, found[0].previous
        envelope = registry.index(lake, pin, newest.index.environment, number)
        payload = read_unverified_payload(envelope, INDEX_TYPE)
        if sha256(payload).hexdigest() != digest:
            raise Untrusted(
                f"index {number} is not the one that index {number + 1} follows",
                code="trust.index_forked",
            )
        index = from_bytes(Index, payload)
        if index.number != number:
            raise Untrusted(
                f"index file {number} holds index {index.number}", code="trust.wrong_index"
            )
        found.insert(0, index)
    return found


def read_index(
    lake: Lake, pin: Pin, environment: str, number: int, policy: TrustPolicy
) -> tuple[Index, str]:
    """One index whose signatures hold, and its digest; how old it may be is not judged.

    Raises: Untrusted, NotFound.
    """
    verified = verify_unseen(registry.index(lake, pin, environment, number), environment, policy)
    return verified.index, verified.digest


def refuse_stale(lake: Lake, pin: Pin, trusted: Trusted, current: VerifiedIndex) -> None:
    """Refuse to build on an index that is not known to be the newest: it may be frozen.

    Raises: Untrusted if its timestamp expired, or it is a day old and nobody signed one.
    """
    index, now = current.index, datetime.now(UTC)
    remedy = "see that the timestamp deployment runs; promotion waits until it does"
    stamp = trusted.timestamp(lake, pin, index.environment, index.number)
    if stamp is None:
        if now >= read_moment(index.created) + GRACE:
            raise Untrusted(
                f"index {index.number} of {index.environment} has no timestamp",
                remedy=remedy,
                code="trust.stale_timestamp",
            )
        return
    verify_index(
        registry.index(lake, pin, index.environment, index.number),
        environment=index.environment,
        policy=trusted.policy,
        floor=Floor(index.environment),
        now=now,
        timestamp=stamp,
    )


def verify_unseen(envelope: bytes, environment: str, policy: TrustPolicy) -> VerifiedIndex:
    """Without the client's floor: it may only rise once the index stands in the repository."""
    return verify_index(
        envelope,
        environment=environment,
        policy=policy,
        floor=Floor(environment),
        now=datetime.now(UTC),
    )
