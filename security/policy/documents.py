"""The two signed documents of a policy: `Trust`, by the root, and `Rules`, by the policy role.

Trust says who may sign what; it changes rarely, offline. Rules say what is good enough and what
may be loaded; changing a threshold is no offline ceremony.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from security.errors import Untrusted
from security.formats.envelope import decode64, encode64, sign
from security.formats.strict_json import (
    Identifier,
    Line,
    Moment,
    Name,
    Ordinal,
    Sha256,
    Size,
    Text,
    to_bytes,
)
from security.keys.pairs import (
    SEAL_SUITE,
    SIGNATURE_SUITE,
    PublicPair,
    PublicRecipient,
    RoleSigner,
)
from security.policy.gates import GateRule

TRUST_TYPE = "application/vnd.headrace.trust.v1+json"
RULES_TYPE = "application/vnd.headrace.rules.v1+json"

Base64 = Annotated[str, Text(r"[A-Za-z0-9+/]{1,4096}={0,2}", "base64")]
TypeName = Annotated[str, Text(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+", "a type name")]
Enrolled = Literal["policy", "trainer", "gatekeeper", "releaser", "timestamp"]


@dataclass(frozen=True)
class PairRecord:
    """A public pair as it stands in a document."""

    ed25519: Base64
    mldsa65: Base64

    @classmethod
    def of(cls, pair: PublicPair) -> "PairRecord":
        """The record of `pair`."""
        return cls(encode64(pair.ed25519), encode64(pair.mldsa65))

    @property
    def pair(self) -> PublicPair:
        """The pair itself; BadKey if it may not be enrolled."""
        return PublicPair(
            decode64(self.ed25519, "an Ed25519 key"), decode64(self.mldsa65, "an ML-DSA-65 key")
        )


@dataclass(frozen=True)
class RecipientRecord:
    """A recipient as it stands in a document, with a name for people."""

    name: Name
    mlkem768: Base64
    x25519: Base64

    @classmethod
    def of(cls, name: str, recipient: PublicRecipient) -> "RecipientRecord":
        """The record of `recipient`."""
        return cls(name, encode64(recipient.mlkem768), encode64(recipient.x25519))

    @property
    def recipient(self) -> PublicRecipient:
        """The recipient itself."""
        return PublicRecipient(
            decode64(self.mlkem768, "an ML-KEM-768 key"), decode64(self.x25519, "an X25519 key")
        )


@dataclass(frozen=True)
class RoleKeys:
    """The pairs that hold a role, and how many of them must sign."""

    keys: tuple[PairRecord, ...]
    threshold: Ordinal = 1


@dataclass(frozen=True)
class Revocation:
    """A pair that must not be believed any more, and why.

    `kept` are SHA-256 digests of payloads that it signed before `cut_off` and that `role` is
    still believed for. They were listed when it was revoked: no date in a statement decides.
    """

    key: PairRecord
    reason: Line
    role: Enrolled | None = None
    cut_off: Moment | None = None
    kept: tuple[Sha256, ...] | None = None
    since: Moment | None = None

    def keeps(self, role: str, digest: str) -> bool:
        """Whether a payload that this pair signed as `role` is still believed."""
        return self.role == role and digest in (self.kept or ())


@dataclass(frozen=True)
class Trust:
    """Who may sign what.

    `version` grows with every edition. Raising `epoch` makes clients forget their index floors,
    which recovers from a stolen key that signed a huge index number.
    """

    version: Ordinal
    epoch: Ordinal
    created: Moment
    roles: Mapping[Enrolled, RoleKeys]
    recipients: tuple[RecipientRecord, ...]
    revoked: tuple[Revocation, ...] = ()
    suites: tuple[Identifier, ...] = (SIGNATURE_SUITE, SEAL_SUITE)
    minimum_index: Mapping[Name, Size] | None = None
    # The root to pin from now on, where it is not the one that verifies this edition.
    root: PairRecord | None = None
    # Key id to the time it was enrolled, for people.
    enrolled: Mapping[Sha256, Moment] | None = None
    # Environment to the number of releasers its indexes need, where the role's own is too few.
    index_thresholds: Mapping[Name, Ordinal] | None = None

    def check(self, root: PublicPair) -> None:
        """Refuse a policy that enrols a key twice, or an unreachable threshold.

        Raises: Untrusted; BadKey for a key that no policy may enrol.
        """
        seen: set[bytes] = set()
        named = self.root.pair if self.root else root
        roots = [root] if named == root else [root, named]
        for pair in [*roots, *self._pairs()]:
            halves = {pair.ed25519, pair.mldsa65}
            if halves & seen:
                raise Untrusted(
                    f"key {pair.key_id[:12]} is enrolled twice", code="trust.contradictory"
                )
            seen |= halves
        for role, holders in self.roles.items():
            if holders.threshold > len(holders.keys):
                raise Untrusted(
                    f"the threshold of {role} is above its number of keys",
                    code="trust.contradictory",
                )
        releasers = self.roles.get("releaser")
        for environment, needed in (self.index_thresholds or {}).items():
            if releasers is None or needed > len(releasers.keys):
                raise Untrusted(
                    f"{environment} needs more releasers than are enrolled",
                    code="trust.contradictory",
                )

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the enrolled pairs and recipients."""
        pairs = (record.pair for holders in self.roles.values() for record in holders.keys)
        ids = [pair.key_id for pair in pairs]
        return (*ids, *(record.recipient.recipient_id for record in self.recipients))

    def _pairs(self) -> Iterator[PublicPair]:
        for holders in self.roles.values():
            yield from (record.pair for record in holders.keys)
        yield from (revocation.key.pair for revocation in self.revoked)


@dataclass(frozen=True)
class SizeLimits:
    """How large things may be, in bytes; judged before anything is parsed or loaded."""

    sealed_bytes: Size = 8 * 2**30
    model_bytes: Size = 2**30
    expanded_bytes: Size = 4 * 2**30
    entries: Size = 100_000


@dataclass(frozen=True)
class Rules:
    """What is good enough, and what may be loaded."""

    version: Ordinal
    created: Moment
    gates: Mapping[Name, tuple[GateRule, ...]]
    skops_types: tuple[TypeName, ...] = ()
    limits: SizeLimits = SizeLimits()
    require_clean_code: bool | None = None


@dataclass(frozen=True)
class PolicyDigests:
    """SHA-256 of the two payloads, for statements that name the policy they were judged by."""

    trust: Sha256
    rules: Sha256


def sign_trust(trust: Trust, *roots: RoleSigner) -> bytes:
    """The root's envelope round `trust`, which is checked as a verifier would."""
    for root in roots:
        trust.check(root.require("root").public)
    return sign(to_bytes(trust), TRUST_TYPE, *roots)


def sign_rules(rules: Rules, *signers: RoleSigner) -> bytes:
    """The policy role's envelope round `rules`."""
    return sign(to_bytes(rules), RULES_TYPE, *(one.require("policy") for one in signers))
