"""What should run in an environment: numbered signed indexes, kept fresh by signed timestamps.

An old release is refused because the current index does not name it; an old index because its
number is below the floor, or its timestamp has expired. A rollback is a new index.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from security.errors import Untrusted
from security.formats.envelope import sign
from security.formats.strict_json import (
    AtLeast,
    Identifier,
    Line,
    Moment,
    Name,
    Ordinal,
    Sha256,
    from_bytes,
    to_bytes,
)
from security.keys.pairs import RoleSigner
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy
from security.release.statement import ModelRelease

INDEX_TYPE = "application/vnd.headrace.index.v1+json"
TIMESTAMP_TYPE = "application/vnd.headrace.timestamp.v1+json"


@dataclass(frozen=True)
class NamedRelease:
    """A release by model, version, digest and path in the releases repository."""

    model: Name
    version: Ordinal
    digest: Sha256
    path: Identifier

    def __post_init__(self) -> None:
        if self.path != f"models/{self.model}/{self.version}":
            raise Untrusted(
                "the index names a release at another path than its own", code="trust.malformed"
            )

    @classmethod
    def of(cls, release: ModelRelease) -> "NamedRelease":
        """The reference to `release`."""
        return cls(release.model, release.version, release.digest, release.path)


@dataclass(frozen=True)
class Canary:
    """A second release and its share of the traffic, in percent."""

    release: NamedRelease
    percent: Annotated[int, AtLeast(1)]

    def __post_init__(self) -> None:
        if self.percent > 99:
            raise Untrusted("a canary takes 1 to 99 percent of the traffic", code="trust.malformed")


@dataclass(frozen=True)
class Index:
    """What one environment should run from now on, and who decided it, why."""

    environment: Name
    number: Ordinal
    release: NamedRelease
    actor: Line
    reason: Line
    created: Moment
    previous: Sha256 | None = None
    canary: Canary | None = None
    shadow: NamedRelease | None = None

    def __post_init__(self) -> None:
        if (self.number == 1) != (self.previous is None):
            raise Untrusted(
                "an index names its predecessor, except for the first", code="trust.malformed"
            )

    @property
    def releases(self) -> tuple[NamedRelease, ...]:
        """Every release that it names: its own, the canary's and the shadow."""
        canary = self.canary.release if self.canary else None
        return tuple(filter(None, (self.release, canary, self.shadow)))


@dataclass(frozen=True)
class Timestamp:
    """That an index was the current one when this was signed."""

    environment: Name
    number: Ordinal
    digest: Sha256
    created: Moment
    expires: Moment


@dataclass(frozen=True)
class VerifiedIndex:
    """An index all of whose checks passed.

    `fresh_until` is None if no timestamp was given: then only the floor speaks for its age.
    """

    index: Index
    digest: str
    key_id: str
    fresh_until: datetime | None


def sign_index(index: Index, signer: RoleSigner) -> bytes:
    """The releaser's envelope round `index`."""
    return sign(to_bytes(index), INDEX_TYPE, signer.require("releaser"))


def sign_timestamp(
    current: VerifiedIndex, *, created: datetime, expires: datetime, signer: RoleSigner
) -> bytes:
    """The timestamp role's word that `current`, which it verified itself, is the newest."""
    stamp = Timestamp(
        current.index.environment,
        current.index.number,
        current.digest,
        format_moment(created),
        format_moment(expires),
    )
    return sign(to_bytes(stamp), TIMESTAMP_TYPE, signer.require("timestamp"))


def verify_index(
    envelope: bytes,
    *,
    environment: str,
    policy: TrustPolicy,
    floor: Floor,
    now: datetime,
    timestamp: bytes | None = None,
) -> VerifiedIndex:
    """The index, if it is signed, for this environment, not below the floor, and fresh.

    Raises: Untrusted otherwise. Raise the floor with the result: `floor.raise_to(...)`.
    """
    # 1. Clock and policy are not older than what was already seen.
    floor.check_clock(now)
    floor.check_policy(policy)
    # 2. Signed by as many releasers as the policy demands, for this environment.
    verified = policy.verify(
        envelope,
        role="releaser",
        payload_type=INDEX_TYPE,
        threshold=policy.index_threshold(environment),
    )
    index = from_bytes(Index, verified.payload)
    if index.environment != environment:
        raise Untrusted(
            f"the index is for {index.environment}, not {environment}", code="trust.wrong_index"
        )
    # 3. Not below the floor, and the same history.
    digest = hashlib.sha256(verified.payload).hexdigest()
    floor.check_index(policy, environment, index.number, digest, index.previous)
    # 4. Fresh.
    found = VerifiedIndex(index, digest, verified.key_id, None)
    if timestamp is None:
        return found
    until = verify_timestamp(timestamp, found, policy=policy, now=now)
    return replace(found, fresh_until=until)


def verify_timestamp(
    envelope: bytes, current: VerifiedIndex, *, policy: TrustPolicy, now: datetime
) -> datetime:
    """Until when the timestamp role says that `current` is the newest index.

    Raises: Untrusted if it did not sign that, or it has expired.
    """
    verified = policy.verify(envelope, role="timestamp", payload_type=TIMESTAMP_TYPE)
    stamp = from_bytes(Timestamp, verified.payload)
    index = current.index
    named = (stamp.environment, stamp.number, stamp.digest)
    if named != (index.environment, index.number, current.digest):
        raise Untrusted(
            f"the timestamp names index {stamp.number}, not {index.number}",
            code="trust.wrong_index",
        )
    expires = read_moment(stamp.expires)
    if now >= expires:
        raise Untrusted(
            f"the index's timestamp expired at {stamp.expires}",
            remedy="see that the timestamp deployment runs; promotion waits until it does",
            code="trust.stale_timestamp",
        )
    return expires


def format_moment(moment: datetime) -> str:
    """A time as signed documents write it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_moment(text: str) -> datetime:
    """The time that `format_moment` wrote.

    Raises: Untrusted if there is no such time.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Untrusted(f"{text[:40]!r} is not a time", code="trust.malformed") from None
