"""Key ceremonies of the roles that sign: a pair retires, another is enrolled, the root signs.

A retired pair stays believed for the payloads that were listed when it retired, and for no other:
no date in a statement decides, because whoever stole a key writes what date they like.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from security.errors import BadKey
from security.keys.keyfiles import replace_private
from security.keys.pairs import PublicPair, RoleSigner, Signer
from security.policy.documents import Enrolled, PairRecord, Revocation, RoleKeys, Trust
from security.policy.edition import (
    Ceremony,
    change_home,
    load_policy,
    make_next_trust,
    read_clock,
    write_rules,
    write_trust,
)
from security.policy.trust_policy import TrustPolicy

_MIN_ID = 8


@dataclass(frozen=True)
class Retirement:
    """Why a pair retires, and the digests of what it signed before `cut_off` that stay believed."""

    reason: str
    cut_off: str | None = None
    kept: tuple[str, ...] = ()


def find_pair(trust: Trust, name: str) -> tuple[Enrolled, PublicPair]:
    """The enrolled or revoked pair that a role's name, or the beginning of a key id, stands for.

    A role's name stands for enrolled pairs only.
    Raises: BadKey if it stands for none, or for several.
    """
    enrolled = [(role, one.pair) for role, keys in trust.roles.items() for one in keys.keys]
    revoked = [(one.role, one.key.pair) for one in trust.revoked if one.role is not None]
    found = [(role, pair) for role, pair in enrolled if role == name]
    if not found and len(name) >= _MIN_ID:
        found = [(r, pair) for r, pair in [*enrolled, *revoked] if pair.key_id.startswith(name)]
    if len(found) != 1:
        ids = ", ".join(pair.key_id[:12] for _, pair in found)
        raise BadKey(
            f"{name[:70]!r} stands for {len(found)} keys{f': {ids}' if ids else ''}",
            remedy="give a role, or the id of a key as `headrace keys list` prints it",
        )
    return found[0]


def find_retirement(trust: Trust, name: str, reason: str) -> Revocation | None:
    """The retirement of a role's pair for the same reason: the same command, given again."""
    return next((one for one in trust.revoked if (one.role, one.reason) == (name, reason)), None)


def retire(
    home: Path,
    name: str,
    *,
    root: RoleSigner,
    retirement: Retirement,
    successor: RoleSigner | None = None,
    passphrase: str | None = None,
) -> Ceremony:
    """Revoke a pair, but for what it is still believed for, and enrol another in its place.

    `successor` is a pair that is kept elsewhere; by default one is made, whose private halves
    replace the old ones, which are gone then. Of a pair that retired before, the list of what it
    is believed for may only shrink.
    Raises: BadKey, Untrusted; nothing was changed then.
    """
    policy = load_policy(home)
    if done := find_retirement(policy.trust, name, retirement.reason):
        return Ceremony(policy, already=True, retired=done.key.pair.key_id)
    role, old = find_pair(policy.trust, name)
    if old not in policy.pairs(role):
        return _narrow(home, policy, old, retirement, root)
    new = successor.require(role) if successor else Signer.generate(role)
    trust = make_next_trust(
        policy.trust,
        roles={
            **policy.trust.roles,
            role: _replace_pair(policy.trust.roles[role], old, new.public),
        },
        revoked=(*policy.trust.revoked, _make_revocation(old, role, retirement)),
    )
    with change_home(home, policy) as staged:
        _place(staged / role, new, passphrase)
        write_trust(staged, trust, policy.root, root)
        if role == "policy":
            write_rules(staged, policy.rules, new)
    return Ceremony(load_policy(home), False, old.key_id, new.public.key_id)


def enrol(home: Path, pair: PublicPair, role: Enrolled, *, root: RoleSigner) -> Ceremony:
    """One more pair for a role, say a second releaser, whose private half is kept elsewhere."""
    policy = load_policy(home)
    if pair in policy.pairs(role):
        return Ceremony(policy, already=True, enrolled=pair.key_id)
    holders = policy.trust.roles[role]
    more = replace(holders, keys=(*holders.keys, PairRecord.of(pair)))
    trust = make_next_trust(policy.trust, roles={**policy.trust.roles, role: more})
    with change_home(home, policy) as staged:
        write_trust(staged, trust, policy.root, root)
    return Ceremony(load_policy(home), False, enrolled=pair.key_id)


def _narrow(
    home: Path, policy: TrustPolicy, old: PublicPair, why: Retirement, root: RoleSigner
) -> Ceremony:
    standing = next(one for one in policy.trust.revoked if one.key.pair == old)
    kept = set(standing.kept or ()) & set(why.kept)
    if kept == set(standing.kept or ()):
        return Ceremony(policy, already=True, retired=old.key_id)
    smaller = replace(
        standing, reason=why.reason, cut_off=why.cut_off, kept=tuple(sorted(kept)) or None
    )
    revoked = tuple(smaller if one is standing else one for one in policy.trust.revoked)
    with change_home(home, policy) as staged:
        write_trust(staged, make_next_trust(policy.trust, revoked=revoked), policy.root, root)
    return Ceremony(load_policy(home), False, retired=old.key_id)


def _replace_pair(holders: RoleKeys, old: PublicPair, new: PublicPair) -> RoleKeys:
    keys = tuple(PairRecord.of(new) if one.pair == old else one for one in holders.keys)
    return replace(holders, keys=keys)


def _make_revocation(pair: PublicPair, role: Enrolled, why: Retirement) -> Revocation:
    kept = tuple(sorted(set(why.kept))) or None
    return Revocation(PairRecord.of(pair), why.reason, role, why.cut_off, kept, read_clock())


def _place(folder: Path, new: RoleSigner, passphrase: str | None) -> None:
    """The new private halves for the old; of a key that is kept elsewhere nothing comes here."""
    if isinstance(new, Signer):
        replace_private(folder, new.private_halves(), passphrase)
        return
    for algorithm in ("ed25519", "mldsa65"):
        (folder / f"{algorithm}.pem").unlink(missing_ok=True)
