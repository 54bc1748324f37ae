"""The keys that a policy names, as a person looks at them: state, age, and where each one is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.trust import key_access
from security.errors import BadKey
from security.keys.pairs import RECIPIENTS, SIGNATURE_SUITE, PublicPair, Role
from security.policy.edition import load_policy
from security.policy.trust_policy import TrustPolicy

_KEM = "x-wing (ml-kem-768+x25519)"


@dataclass(frozen=True)
class ListedKey:
    """One key of the policy, for people. `kept` counts what a retired one is believed for."""

    role: str
    id: str
    state: str
    since: str | None
    source: str | None
    algorithms: str
    reason: str | None = None
    cut_off: str | None = None
    kept: int = 0


def list_keys(home: Path) -> list[ListedKey]:
    """Every key that the policy names, the pinned root first. Raises: Untrusted."""
    policy = load_policy(home)
    return [*_list_enrolled(home, policy), *_list_revoked(policy)]


def _list_enrolled(home: Path, policy: TrustPolicy) -> Iterator[ListedKey]:
    since, suite = policy.trust.enrolled or {}, SIGNATURE_SUITE
    held = _describe_source(home, "root", policy.root)
    yield ListedKey("root", policy.root.key_id, "pinned", None, held, suite)
    for role in policy.trust.roles:
        for pair in policy.pairs(role):
            at, source = since.get(pair.key_id), _describe_source(home, role, pair)
            yield ListedKey(role, pair.key_id, "enrolled", at, source, suite)
    for record in policy.trust.recipients:
        key = record.recipient.recipient_id
        source = _describe_opener_source(home, record.name, key)
        # The gatekeeper signs and decrypts, with two keys.
        name = "gatekeeper-recipient" if record.name == "gatekeeper" else record.name
        yield ListedKey(name, key, "enrolled", since.get(key), source, _KEM)


def _list_revoked(policy: TrustPolicy) -> Iterator[ListedKey]:
    for one in policy.trust.revoked:
        yield ListedKey(
            one.role or "unknown",
            one.key.pair.key_id,
            "retired" if one.kept else "revoked",
            one.since,
            None,
            SIGNATURE_SUITE,
            one.reason,
            one.cut_off,
            len(one.kept or ()),
        )


def _describe_source(home: Path, role: Role, pair: PublicPair) -> str | None:
    """Where this process has the pair from; None if it has another one, or none."""
    try:
        signer = key_access.read_signer(home, role)
    except BadKey:
        return None
    return key_access.source_of(role, home) if signer.public == pair else None


def _describe_opener_source(home: Path, name: str, recipient_id: str) -> str | None:
    if name not in RECIPIENTS:
        return None
    try:
        opener = key_access.read_recipient(home, name)
    except BadKey:
        return None
    matches = opener.public.recipient_id == recipient_id
    return key_access.source_of(name, home) if matches else None
