"""Proposals: indexes that wait for the signatures of more releasers, and what they name.

No verifier takes one for an index. It is about one number and one predecessor, so that of two
proposals, or a proposal and an index, one wins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from flows.release.publish_index import Kind, verify_registered
from flows.trust.installation import Trusted
from flows.trust.newest_index import read_standing_index
from security.errors import Untrusted
from security.formats.envelope import INTOTO, Verified, add_signature
from security.formats.strict_json import Ordinal, from_bytes
from security.keys.pairs import RoleSigner
from security.policy.trust_policy import TrustPolicy
from security.release.index import INDEX_TYPE, Index, VerifiedIndex, read_moment
from security.release.verify import RELEASE
from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, layout

LIFETIME = timedelta(days=3)
State = Literal["open", "approved", "overtaken", "expired"]


@dataclass(frozen=True)
class FiledProposal:
    """A proposal as it stands in the repository; `envelope` holds the index."""

    number: Ordinal
    kind: Kind
    envelope: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """An index that waits for signatures. `key_ids` are the releasers who signed it."""

    number: int
    kind: Kind
    index: Index
    envelope: bytes
    key_ids: tuple[str, ...]
    needed: int
    state: State

    @property
    def expires(self) -> datetime:
        """Until when it may be approved: a lifetime after the time its first signer signed."""
        return read_moment(self.index.created) + LIFETIME


def list_proposals(lake: Lake, pin: Pin, trusted: Trusted, environment: str) -> list[Proposal]:
    """Every proposal that a releaser signed, oldest first, and what became of it."""
    current = read_standing_index(lake, pin, trusted, environment)
    return list(_read_all(lake, pin, trusted, environment, current))


def open_proposal(
    lake: Lake, pin: Pin, trusted: Trusted, environment: str, number: int
) -> Proposal:
    """The proposal, if it may still be approved. Raises: Refused, NotFound, Untrusted."""
    current = read_standing_index(lake, pin, trusted, environment)
    try:
        proposal = _read(lake, pin, trusted, environment, number, current)
    except NotFound as error:
        raise NotFound(
            f"{environment} has no proposal {number}.",
            remedy="`headrace model proposals` prints those there are.",
        ) from error
    if proposal.state != "open":
        since = f" at {proposal.expires:%Y-%m-%d %H:%M} UTC" if proposal.state == "expired" else ""
        newest = f"{current.index.number}" if current else "none"
        raise Refused(
            f"Proposal {number} of {environment} is {proposal.state}{since}; "
            f"its newest index is {newest}.",
            remedy="If it is still right, propose it anew with `headrace model promote`.",
        )
    return proposal


def verify_signed_so_far(envelope: bytes, trusted: Trusted) -> Verified:
    """The index in an envelope that at least one releaser signed. Raises: Untrusted."""
    policy = trusted.policy.for_cosigner()
    return policy.verify(envelope, role="releaser", payload_type=INDEX_TYPE)


def _read_all(
    lake: Lake, pin: Pin, trusted: Trusted, environment: str, current: VerifiedIndex | None
) -> Iterator[Proposal]:
    for number in list_numbers(lake, pin, environment):
        try:
            yield _read(lake, pin, trusted, environment, number, current)
        except Untrusted:
            # Nobody's word, or that of a key revoked since: it can lead to nothing.
            continue


def _read(
    lake: Lake,
    pin: Pin,
    trusted: Trusted,
    environment: str,
    number: int,
    current: VerifiedIndex | None,
) -> Proposal:
    filed = from_bytes(
        FiledProposal,
        lake.fs.get(pin.repository, pin.commit, layout.proposal_path(environment, number)),
    )
    envelope = filed.envelope.encode()
    signed = verify_signed_so_far(envelope, trusted)
    index = from_bytes(Index, signed.payload)
    if (index.environment, filed.number) != (environment, number):
        raise Untrusted(f"proposal {number} of {environment} stands in another's place")
    needed = trusted.policy.index_threshold(environment)
    state = _judge_state(index, current)
    return Proposal(number, filed.kind, index, envelope, signed.key_ids, needed, state)


def _judge_state(index: Index, current: VerifiedIndex | None) -> State:
    if current and current.index == index:
        return "approved"
    followed = (current.index.number, current.digest) if current else (0, None)
    if (index.number - 1, index.previous) != followed:
        return "overtaken"
    expired = datetime.now(UTC) >= read_moment(index.created) + LIFETIME
    return "expired" if expired else "open"


def list_numbers(lake: Lake, pin: Pin, environment: str) -> list[int]:
    """Numbers of the environment's proposals at the pin, oldest first."""
    folder = layout.proposal_folder(environment)
    listed = lake.fs.objects(pin.repository, pin.commit, prefix=folder)
    return layout.parse_numbers(folder, (entry.path for entry in listed))


def cosign_release(
    lake: Lake,
    pin: Pin,
    ref: ReleaseRef,
    policy: TrustPolicy,
    releaser: RoleSigner,
    *,
    complete: bool = False,
) -> dict[str, bytes]:
    """The release's envelope with this releaser's signature, by path; nothing if it has enough.

    The release is verified by this releaser first. Its digest is the statement's and stays.
    Raises: Untrusted if a step fails, or if `complete` and signatures are still missing.
    """
    path = f"{ref.path}/{RELEASE}"
    standing = lake.fs.get(pin.repository, pin.commit, path)
    needed = policy.trust.roles["releaser"].threshold
    signed = policy.for_cosigner().verify(standing, role="releaser", payload_type=INTOTO)
    if len(signed.key_ids) >= needed:
        return {}
    envelope = standing
    if releaser.public.key_id not in signed.key_ids:
        verify_registered(lake, pin, ref, policy.for_cosigner())
        envelope = add_signature(standing, INTOTO, releaser)
    if complete:
        policy.verify(envelope, role="releaser", payload_type=INTOTO)
    return {path: envelope} if envelope != standing else {}
