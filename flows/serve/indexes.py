"""An environment's signed indexes: its history, and the next one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from flows.pipeline import Pipeline
from flows.serve.fresh import LIFETIME
from flows.trust import Trusted
from security.errors import Untrusted
from security.floor import Floor
from security.index import (
    INDEX_TYPE,
    Index,
    ReleaseRef,
    VerifiedIndex,
    moment_text,
    sign_index,
    sign_timestamp,
    verify_index,
)
from security.keys import load_signer
from security.policy import TrustPolicy
from security.record import from_bytes
from security.release import VerifiedRelease, verify_release
from storage import registry
from storage.errors import Refused
from storage.lake import Lake, Pin
from storage.runs import Outcome, Provenance

Kind = Literal["promotion", "rollback"]


@dataclass(frozen=True, slots=True)
class Next:
    """What the next index of an environment should say, and who wants it, why.

    `after` is the index that the decision was made on; a different one in its place means that
    somebody else decided meanwhile.
    """

    environment: str
    release: VerifiedRelease
    kind: Kind
    actor: str
    reason: str
    after: VerifiedIndex | None
    request_id: str


def verified_release(
    lake: Lake, pin: Pin, ref: registry.ReleaseRef, policy: TrustPolicy
) -> VerifiedRelease:
    """All numbered steps of the release's verification, on a private copy that is removed again.

    Raises: Untrusted at the first step that fails, NotFound.
    """
    with TemporaryDirectory(prefix="headrace-") as private:
        folder = registry.download(lake, pin, ref.path, Path(private) / "release")
        return verify_release(folder, policy=policy, name=ref.model, version=ref.version)


def publish(
    lake: Lake, pipeline: Pipeline, trusted: Trusted, following: Next, by: Provenance | None
) -> tuple[int, Outcome]:
    """Sign and write the index, with its first timestamp if that key is here.

    Raises: Refused, naming the winner, if another index came first.
    """
    releaser = load_signer(trusted.keys, "releaser")

    def sign(number: int, previous: bytes | None) -> dict[str, bytes]:
        _refuse_second(following, number, previous, trusted.policy)
        index = _index(following, number)
        envelope = sign_index(index, releaser)
        stamp = _timestamp(envelope, following.environment, trusted)
        files = {f"{number}.json": envelope, f"{number}.timestamp.json": stamp}
        return {name: data for name, data in files.items() if data is not None}

    return registry.publish_index(
        lake,
        pipeline.name,
        following.environment,
        request_id=following.request_id,
        sign=sign,
        details={
            "kind": following.kind,
            "release": _name(ReleaseRef.of(following.release.release)),
            "reason": following.reason,
            "actor": following.actor,
        },
        by=by,
    )


def history(lake: Lake, pin: Pin, newest: VerifiedIndex, policy: TrustPolicy) -> list[Index]:
    """Every index up to `newest`, which is verified, oldest first.

    Raises: Untrusted where one is not signed, or is not the one that its successor follows.
    """
    found = [newest.index]
    while found[0].previous is not None:
        number, digest = found[0].number - 1, found[0].previous
        index, own = read_index(lake, pin, newest.index.environment, number, policy)
        if own != digest or index.number != number:
            raise Untrusted(f"index {number} is not the one that index {number + 1} follows")
        found.insert(0, index)
    return found


def read_index(
    lake: Lake, pin: Pin, environment: str, number: int, policy: TrustPolicy
) -> tuple[Index, str]:
    """One index whose signature holds, and its digest; how old it may be is not judged.

    Raises: Untrusted, NotFound.
    """
    envelope = registry.index(lake, pin, environment, number)
    payload = policy.verify(envelope, role="releaser", payload_type=INDEX_TYPE).payload
    return from_bytes(Index, payload), sha256(payload).hexdigest()


def names(index: Index, release: VerifiedRelease) -> bool:
    """Whether the index names exactly this release."""
    return index.release == ReleaseRef.of(release.release)


def _index(following: Next, number: int) -> Index:
    return Index(
        environment=following.environment,
        number=number,
        release=ReleaseRef.of(following.release.release),
        actor=following.actor,
        reason=following.reason,
        created=moment_text(datetime.now(UTC)),
        previous=following.after.digest if following.after else None,
    )


def _timestamp(envelope: bytes, environment: str, trusted: Trusted) -> bytes | None:
    """The first timestamp; None where the key is kept elsewhere, which signs it in its own time."""
    if not (trusted.keys / "timestamp").is_dir():
        return None
    current, now = _verified(envelope, environment, trusted.policy), datetime.now(UTC)
    signer = load_signer(trusted.keys, "timestamp")
    return sign_timestamp(current, created=now, expires=now + LIFETIME, signer=signer)


def _refuse_second(
    following: Next, number: int, previous: bytes | None, policy: TrustPolicy
) -> None:
    expected = following.after.index.number + 1 if following.after else 1
    if number == expected or previous is None:
        return
    winner = _verified(previous, following.environment, policy).index
    raise Refused(
        f"{winner.actor} wrote index {winner.number} of {winner.environment} meanwhile: "
        f"{_name(winner.release)} ({winner.reason}).",
        remedy="Look at `headrace model list`, and repeat the command if it is still right.",
    )


def _verified(envelope: bytes, environment: str, policy: TrustPolicy) -> VerifiedIndex:
    """Without the client's floor: it may only rise once the index stands in the repository."""
    return verify_index(
        envelope,
        environment=environment,
        policy=policy,
        floor=Floor(environment),
        now=datetime.now(UTC),
    )


def _name(reference: ReleaseRef) -> str:
    return f"{reference.model}/{reference.version}"
