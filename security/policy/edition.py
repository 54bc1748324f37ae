"""The next edition of a policy in a key home, written with its keys at once or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from security.errors import BadKey
from security.files import change_folder, replace_file
from security.keys.pairs import PublicPair, RoleSigner
from security.policy.documents import Rules, Trust, sign_rules, sign_trust
from security.policy.key_homes import PUBLIC, ROOT, encode_public_keys
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, load_root


@dataclass(frozen=True)
class Ceremony:
    """What became of it. `already`: it had been done before, and nothing changed now.

    `retired` and `enrolled` are key ids; empty where there is none.
    """

    policy: TrustPolicy
    already: bool
    retired: str = ""
    enrolled: str = ""


def load_policy(home: Path) -> TrustPolicy:
    """The policy of a key home, under the root pinned there. Raises: Untrusted."""
    return TrustPolicy.load(home, root=load_root(home / ROOT))


def change_trust(home: Path, edit: Callable[[Trust], Trust], *, root: RoleSigner) -> Ceremony:
    """Another edition of the trust, say with a threshold or a minimum index; no key changes.

    Raises: BadKey if `root` is not the pinned one, Untrusted if no verifier would take it.
    """
    policy = load_policy(home)
    changed = edit(policy.trust)
    if changed == policy.trust:
        return Ceremony(policy, already=True)
    with change_home(home, policy) as staged:
        write_trust(staged, make_next_trust(changed), policy.root, root)
    return Ceremony(load_policy(home), already=False)


def change_rules(home: Path, edit: Callable[[Rules], Rules], *, signer: RoleSigner) -> Ceremony:
    """Another edition of the rules, by the policy role; no root is needed.

    Raises: BadKey if the policy does not enrol `signer` for it.
    """
    policy = load_policy(home)
    changed = edit(policy.rules)
    if changed == policy.rules:
        return Ceremony(policy, already=True)
    if signer.public not in policy.pairs("policy"):
        raise BadKey(
            "the policy key given here is not enrolled",
            remedy="`headrace keys list` prints the one that is",
            code="trust.key_not_enrolled",
        )
    with change_home(home, policy) as staged:
        write_rules(staged, changed, signer)
    return Ceremony(load_policy(home), already=False)


@contextmanager
def change_home(home: Path, policy: TrustPolicy | None) -> Iterator[Path]:
    """A copy of a key home to change; it takes effect whole, once its policy has verified.

    `policy` is the one that the change was decided on, None where there was none.
    Raises: BadKey if another ceremony changed that meanwhile, or where the file system cannot
    exchange two folders.
    """
    try:
        with change_folder(home) as staged:
            if policy is not None and load_policy(staged).digests != policy.digests:
                raise BadKey(
                    f"another ceremony changed {home} meanwhile",
                    remedy="repeat the command",
                    code="trust.key_home_busy",
                )
            yield staged
            load_policy(staged)
    except OSError as error:
        raise BadKey(
            f"{home} cannot be changed all at once: {error.strerror}",
            remedy="keep the keys on a local file system, in a folder that is no mount point",
            code="trust.key_home_busy",
        ) from error


def make_next_trust(trust: Trust, **changes: Any) -> Trust:
    """The edition after `trust`; keys that are new in it are enrolled as of now."""
    changed = replace(trust, version=trust.version + 1, created=read_clock(), **changes)
    known = {**dict.fromkeys(trust.key_ids, ""), **(trust.enrolled or {})}
    since = {key: known.get(key, changed.created) for key in changed.key_ids}
    return replace(changed, enrolled={key: at for key, at in since.items() if at} or None)


def write_trust(staged: Path, trust: Trust, pinned: PublicPair, *roots: RoleSigner) -> None:
    """The signed edition and the public keys that it names.

    Raises: BadKey unless the first of `roots` is the pinned one.
    """
    if roots[0].public != pinned:
        raise BadKey(
            f"this is not the pinned root {pinned.key_id[:12]}, but {roots[0].public.key_id[:12]}",
            remedy="bring the root's own key folder, and name it with --root-key",
            code="trust.wrong_root",
        )
    trust.check(pinned)
    replace_file(staged / TRUST, sign_trust(trust, *roots))
    replace_file(staged / PUBLIC, encode_public_keys(trust, roots[-1].public))


def write_rules(staged: Path, rules: Rules, signer: RoleSigner) -> None:
    """The edition of the rules after `rules`."""
    following = replace(rules, version=rules.version + 1, created=read_clock())
    replace_file(staged / RULES, sign_rules(following, signer))


def read_clock() -> str:
    """The present second, as signed documents write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
