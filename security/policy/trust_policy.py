"""The trust policy: from one pinned public root to who may sign, what is good enough, what loads.

There is no trust on first use and nothing in an artifact is believed about keys: a signature
counts only if the policy, read from its signed bytes every time, enrols its pair for the role.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from security.errors import Untrusted
from security.files import read_regular
from security.formats import canonical, envelope
from security.formats.envelope import Verified
from security.formats.strict_json import from_bytes, from_json
from security.keys.pairs import SEAL_SUITE, SIGNATURE_SUITE, PublicPair, PublicRecipient
from security.policy.documents import (
    RULES_TYPE,
    TRUST_TYPE,
    Enrolled,
    PairRecord,
    PolicyDigests,
    RoleKeys,
    Rules,
    SizeLimits,
    Trust,
)
from security.policy.gates import GateRule

TRUST = "trust.dsse.json"
RULES = "rules.dsse.json"
_MAX_ROOT_BYTES = 16 * 2**10


@dataclass(frozen=True)
class TrustPolicy:
    """A policy whose signatures held; make one with `load` or `parse`."""

    root: PublicPair
    trust: Trust
    rules: Rules
    digests: PolicyDigests

    @classmethod
    def load(cls, folder: Path, *, root: PublicPair) -> "TrustPolicy":
        """Read and verify `trust.dsse.json` and `rules.dsse.json` in `folder`.

        Raises: Untrusted if either is missing, or not signed as the pinned root demands.
        """
        signed_trust, signed_rules = (
            read_regular(folder / name, max_bytes=envelope.MAX_ENVELOPE_BYTES)
            for name in (TRUST, RULES)
        )
        return cls.parse(signed_trust, signed_rules, root=root)

    @classmethod
    def parse(cls, signed_trust: bytes, signed_rules: bytes, *, root: PublicPair) -> "TrustPolicy":
        """Verify the two envelopes, from the root down.

        Raises: Untrusted, naming which of them failed.
        """
        payload = _verify_trust(signed_trust, root)
        trust = from_bytes(Trust, payload)
        trust.check(root)
        _require_suites(trust)
        judged = _verify(trust, signed_rules, role="policy", payload_type=RULES_TYPE).payload
        digests = PolicyDigests(_digest(payload), _digest(judged))
        return cls(root, trust, from_bytes(Rules, judged), digests)

    def verify(
        self, signed: bytes, *, role: Enrolled, payload_type: str, threshold: int = 1
    ) -> Verified:
        """The payload of an envelope, if enough holders of `role` signed it.

        Enough is the role's own threshold, or `threshold` if that is more.
        Raises: Untrusted; the reason tells a revoked key and another role's key from an unknown.
        """
        return _verify(
            self.trust, signed, role=role, payload_type=payload_type, threshold=threshold
        )

    def index_threshold(self, environment: str) -> int:
        """How many releasers must sign an index of `environment`."""
        role = self.trust.roles.get("releaser")
        own = (self.trust.index_thresholds or {}).get(environment, 1)
        return max(own, role.threshold if role else 1)

    def for_cosigner(self) -> "TrustPolicy":
        """The same policy with one releaser's signature enough, to judge what lacks the others.

        For a releaser about to add a signature; nothing that passes may be served for it.
        """
        releasers = self.trust.roles.get("releaser", RoleKeys(()))
        return self._replace_releasers(releasers.keys)

    def for_predecessor(self) -> "TrustPolicy":
        """The same policy with one releaser's signature enough, be the key revoked since.

        For what is to be superseded: a new index follows the standing one, whoever signed that.
        """
        releasers = self.trust.roles.get("releaser", RoleKeys(()))
        own = (None, "releaser")
        revoked = (one.key for one in self.trust.revoked if one.role in own)
        return self._replace_releasers((*releasers.keys, *revoked))

    def _replace_releasers(self, keys: tuple[PairRecord, ...]) -> "TrustPolicy":
        roles = {**self.trust.roles, "releaser": RoleKeys(keys, 1)}
        return replace(self, trust=replace(self.trust, roles=roles, index_thresholds=None))

    @property
    def edition(self) -> tuple[int, int, int]:
        """Epoch, version of the trust, version of the rules: none of them ever goes back."""
        return self.trust.epoch, self.trust.version, self.rules.version

    def gates(self, model: str) -> tuple[GateRule, ...]:
        """What the rules demand of `model`; nothing set means nothing passes."""
        return self.rules.gates.get(model, ())

    def minimum_index(self, environment: str) -> int:
        """The lowest index number that the root accepts for `environment`."""
        return (self.trust.minimum_index or {}).get(environment, 0)

    @property
    def recipients(self) -> tuple[PublicRecipient, ...]:
        """Everyone a new bundle is sealed for."""
        return tuple(record.recipient for record in self.trust.recipients)

    def recipient(self, name: str) -> PublicRecipient:
        """The enrolled recipient of a name.

        Raises: Untrusted if the policy enrols none.
        """
        for record in self.trust.recipients:
            if record.name == name:
                return record.recipient
        raise Untrusted(f"the policy enrols no recipient {name}", code="trust.recipient_missing")

    def pairs(self, role: Enrolled) -> tuple[PublicPair, ...]:
        """The pairs that hold a role."""
        holders = self.trust.roles.get(role)
        return tuple(record.pair for record in holders.keys) if holders else ()

    @property
    def limits(self) -> SizeLimits:
        """How large things may be."""
        return self.rules.limits


def choose_newest(one: TrustPolicy, *others: TrustPolicy) -> TrustPolicy:
    """The newest of the editions that a client knows.

    Raises: Untrusted if none is newest in all: whoever offers today's trust beside rules of an
    earlier day has put together what nobody signed as one.
    """
    latest = max((one, *others), key=lambda policy: policy.edition)
    for other in (one, *others):
        behind = any(a < b for a, b in zip(latest.edition, other.edition, strict=True))
        if behind or (latest.edition == other.edition and latest.digests != other.digests):
            raise Untrusted(
                "the trust policy that is offered and the one known here contradict each other",
                remedy="ask the policy's owner which edition is the newest, and take that over",
                code="trust.contradictory",
            )
    return latest


def load_root(path: Path) -> PublicPair:
    """The public root to pin, from `root.json`.

    Raises: Untrusted if the file is malformed or a link; BadKey for an unusable key.
    """
    data = read_regular(path, max_bytes=_MAX_ROOT_BYTES)
    return from_json(PairRecord, canonical.parse(data), "root").pair


def _verify_trust(signed: bytes, root: PublicPair) -> bytes:
    try:
        return envelope.verify(signed, signers=[root], payload_type=TRUST_TYPE).payload
    except Untrusted as error:
        raise Untrusted(
            f"the trust policy is not signed by the pinned root: {error}",
            remedy="check that the root file and the policy come from the same owner",
            code=error.code if error.code == "trust.malformed" else "trust.wrong_root",
        ) from error


def _verify(
    trust: Trust, signed: bytes, *, role: Enrolled, payload_type: str, threshold: int = 1
) -> Verified:
    holders = trust.roles.get(role)
    if holders is None:
        raise Untrusted(f"the policy enrols no {role}", code="trust.wrong_role")
    try:
        return envelope.verify(
            signed,
            signers=[
                *(record.pair for record in holders.keys),
                *_find_kept_pairs(trust, signed, role, payload_type),
            ],
            payload_type=payload_type,
            threshold=max(holders.threshold, threshold),
        )
    except Untrusted as error:
        raise _explain(trust, signed, role, payload_type, error) from error


def _find_kept_pairs(
    trust: Trust, signed: bytes, role: Enrolled, payload_type: str
) -> list[PublicPair]:
    """Revoked pairs that are still believed for this very payload."""
    digest = _digest(envelope.read_unverified_payload(signed, payload_type))
    return [one.key.pair for one in trust.revoked if one.keeps(role, digest)]


def _explain(
    trust: Trust, signed: bytes, role: Enrolled, payload_type: str, error: Untrusted
) -> Untrusted:
    """The refusal, which says whose valid signature it was, if it was anybody's known here."""
    for revocation in trust.revoked:
        if _has_signed([revocation.key.pair], signed, payload_type):
            key_id, why = revocation.key.pair.key_id[:12], revocation.reason
            return Untrusted(
                f"not signed as {role}: key {key_id} was revoked ({why})", code="trust.revoked_key"
            )
    for other, holders in trust.roles.items():
        for pair in (record.pair for record in holders.keys):
            if _has_signed([pair], signed, payload_type):
                return Untrusted(
                    f"not signed as {role}: "
                    f"key {pair.key_id[:12]} signed, which is enrolled as {other}; {error}",
                    code=error.code if other == role else "trust.wrong_role",
                )
    return Untrusted(f"not signed as {role}: {error}", code=error.code)


def _has_signed(pairs: Collection[PublicPair], signed: bytes, payload_type: str) -> bool:
    try:
        envelope.verify(signed, signers=pairs, payload_type=payload_type)
    except Untrusted:
        return False
    return True


def _require_suites(trust: Trust) -> None:
    missing = {SIGNATURE_SUITE, SEAL_SUITE} - set(trust.suites)
    if missing:
        raise Untrusted(
            f"the policy does not allow {min(missing)}, and this software knows no other",
            code="trust.unknown_suite",
        )


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
