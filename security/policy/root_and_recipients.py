"""Key ceremonies of the root itself, and of those who decrypt."""

from collections.abc import Mapping
from pathlib import Path

from security.errors import BadKey
from security.files import replace_file
from security.formats.strict_json import to_bytes
from security.keys.keyfiles import replace_private, set_aside
from security.keys.pairs import Recipient, RecipientName, RoleSigner, Signer
from security.policy.documents import PairRecord, RecipientRecord
from security.policy.edition import Ceremony, change_home, load_policy, make_next_trust, write_trust
from security.policy.key_homes import PREVIOUS_ROOT, PUBLIC, ROOT, encode_public_keys
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, choose_newest, load_root


def rotate_root(
    home: Path,
    *,
    root: RoleSigner,
    passphrase: str | None = None,
    minimum_index: Mapping[str, int] | None = None,
) -> Ceremony:
    """A new root, in an edition that the old and the new one both sign.

    Whoever pinned the old root still verifies that edition, and learns from it what to pin; the
    next one is the new root's alone. With `minimum_index`, environment to number, a new epoch
    begins, in which clients forget their index floors: the recovery from a stolen key that
    signed a huge number.
    """
    policy, new = load_policy(home), Signer.generate("root")
    trust = make_next_trust(
        policy.trust,
        root=PairRecord.of(new.public),
        epoch=policy.trust.epoch + bool(minimum_index),
        minimum_index={**(policy.trust.minimum_index or {}), **(minimum_index or {})} or None,
    )
    with change_home(home, policy) as staged:
        replace_private(staged / "root", new.private_halves(), passphrase)
        replace_file(staged / PREVIOUS_ROOT, to_bytes(PairRecord.of(policy.root)))
        replace_file(staged / ROOT, to_bytes(PairRecord.of(new.public)))
        write_trust(staged, trust, policy.root, root, new)
    return Ceremony(load_policy(home), False, policy.root.key_id, new.public.key_id)


def pin_successor(home: Path, signed_trust: bytes, signed_rules: bytes) -> Ceremony:
    """Take over a policy that the pinned root signed, and pin the root that it names, if another.

    One that is older than the policy here is left where it is.
    Raises: Untrusted if the pinned root did not sign it, or it contradicts the one here.
    """
    pinned = load_root(home / ROOT)
    policy = TrustPolicy.parse(signed_trust, signed_rules, root=pinned)
    here = load_policy(home) if (home / TRUST).exists() else None
    if here is not None and choose_newest(policy, here).digests == here.digests:
        policy = here
    following = policy.trust.root.pair if policy.trust.root else pinned
    if following == pinned and policy is here:
        return Ceremony(policy, already=True, enrolled=pinned.key_id)
    with change_home(home, here) as staged:
        if following != pinned:
            replace_file(staged / PREVIOUS_ROOT, to_bytes(PairRecord.of(pinned)))
            replace_file(staged / ROOT, to_bytes(PairRecord.of(following)))
        if policy is not here:
            replace_file(staged / TRUST, signed_trust)
            replace_file(staged / RULES, signed_rules)
        replace_file(staged / PUBLIC, encode_public_keys(policy.trust, following))
    if following == pinned:
        return Ceremony(load_policy(home), already=False)
    return Ceremony(load_policy(home), False, pinned.key_id, following.key_id)


def rotate_recipient(
    home: Path, name: RecipientName, *, root: RoleSigner, passphrase: str | None = None
) -> Ceremony:
    """A new decryption key for later bundles; the old one moves to `retired/<id>/<name>/`.

    A recipient that was not enrolled yet is enrolled. What was sealed before stays sealed for
    the old key, until the new one is added to it.
    """
    policy, new = load_policy(home), Recipient.generate()
    old = next((one for one in policy.trust.recipients if one.name == name), None)
    others = tuple(one for one in policy.trust.recipients if one.name != name)
    trust = make_next_trust(
        policy.trust, recipients=(*others, RecipientRecord.of(name, new.public))
    )
    retired = old.recipient.recipient_id if old else ""
    if retired and not (home / name / "mlkem768.pem").is_file():
        raise BadKey(
            f"the {name} key is not in {home}, so it would stay behind, and be lost",
            remedy="run this where the key is",
            code="trust.key_missing",
        )
    with change_home(home, policy) as staged:
        if retired:
            set_aside(staged / name, staged / "retired" / retired[:12] / name)
        replace_private(staged / name, new.private_halves(), passphrase)
        write_trust(staged, trust, policy.root, root)
    return Ceremony(load_policy(home), False, retired, new.public.recipient_id)


def enrol_recipient(home: Path, record: RecipientRecord, *, root: RoleSigner) -> Ceremony:
    """One more recipient, for whom every later bundle is sealed; the private key is elsewhere.

    Raises: BadKey if the name stands for another key already.
    """
    policy, key = load_policy(home), record.recipient.recipient_id
    if record in policy.trust.recipients:
        return Ceremony(policy, already=True, enrolled=key)
    if any(one.name == record.name for one in policy.trust.recipients):
        raise BadKey(
            f"there is a recipient {record.name} already", remedy="revoke it, or take another name"
        )
    trust = make_next_trust(policy.trust, recipients=(*policy.trust.recipients, record))
    with change_home(home, policy) as staged:
        write_trust(staged, trust, policy.root, root)
    return Ceremony(load_policy(home), False, enrolled=key)


def drop_recipient(home: Path, name: str, *, root: RoleSigner) -> Ceremony:
    """Later bundles are not sealed for this recipient any more; earlier ones stay readable."""
    policy = load_policy(home)
    gone = next((one for one in policy.trust.recipients if one.name == name), None)
    if gone is None:
        return Ceremony(policy, already=True)
    others = tuple(one for one in policy.trust.recipients if one != gone)
    if not others:
        raise BadKey(
            "nobody would be left to seal bundles for",
            remedy="enrol another key first",
            code="trust.recipient_missing",
        )
    with change_home(home, policy) as staged:
        write_trust(staged, make_next_trust(policy.trust, recipients=others), policy.root, root)
    return Ceremony(load_policy(home), False, retired=gone.recipient.recipient_id)
