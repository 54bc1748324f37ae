"""Key homes: one private folder per role, so that a deployment is given its own role and no other.

    root.json  public.json  trust.dsse.json  rules.dsse.json    public; copy them anywhere
    root/  policy/  trainer/  releaser/  timestamp/    ed25519.pem mldsa65.pem
    gatekeeper/    ed25519.pem mldsa65.pem mlkem768.pem x25519.pem    it opens what it judges
    serving/       mlkem768.pem x25519.pem

Files on one machine protect roles from each other only as far as its users and permissions do;
an attacker with root on that machine has every key on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from security.errors import BadKey
from security.files import publish_folder, sync_folder
from security.formats import canonical
from security.formats.strict_json import to_bytes, to_json
from security.keys.keyfiles import (
    read_recipient_folder,
    read_signer_folder,
    write_new,
    write_private,
)
from security.keys.pairs import (
    RECIPIENTS,
    ROLES,
    PublicPair,
    Recipient,
    RecipientName,
    Role,
    Signer,
)
from security.policy.documents import (
    PairRecord,
    RecipientRecord,
    RoleKeys,
    Rules,
    Trust,
    sign_rules,
    sign_trust,
)
from security.policy.gates import GateRule
from security.policy.trust_policy import RULES, TRUST, load_root

ROOT = "root.json"
PUBLIC = "public.json"
# The root before this one: what it signed last still has to be read once.
PREVIOUS_ROOT = "root.previous.json"


@dataclass(frozen=True)
class KeyHome:
    """What `init_keys` found or made. `created` is False when nothing was changed."""

    folder: Path
    created: bool
    root: PublicPair

    def __str__(self) -> str:
        if self.created:
            return f"keys created in {self.folder}; pin {self.folder / ROOT}"
        return f"keys already in {self.folder}; nothing changed"


def init_keys(
    folder: Path,
    *,
    passphrase: str | None = None,
    gates: Mapping[str, tuple[GateRule, ...]] | None = None,
    skops_types: tuple[str, ...] = (),
) -> KeyHome:
    """Create every role's key, the recipients' and the signed policy, all at once.

    Running it again changes nothing and says so. `gates` are the first rules, by model.
    Raises: BadKey if the folder holds something else, or the passphrase is weak.
    """
    if folder.is_dir() and any(folder.iterdir()):
        return KeyHome(folder, False, _load_existing_root(folder))
    signers = {role: Signer.generate(role) for role in ROLES}
    recipients = {name: Recipient.generate() for name in RECIPIENTS}
    with publish_folder(folder) as home:
        _write_halves(home, signers, recipients, passphrase)
        trust, root = _make_first_trust(signers, recipients), signers["root"]
        rules = Rules(version=1, created=trust.created, gates=gates or {}, skops_types=skops_types)
        write_new(home / ROOT, to_bytes(PairRecord.of(root.public)))
        write_new(home / PUBLIC, encode_public_keys(trust, root.public))
        write_new(home / TRUST, sign_trust(trust, root))
        write_new(home / RULES, sign_rules(rules, signers["policy"]))
        sync_folder(home)
    sync_folder(folder.parent)
    return KeyHome(folder, True, root.public)


def load_signer(folder: Path, role: Role, *, passphrase: str | None = None) -> Signer:
    """The private pair of `role` below `folder`.

    Raises: BadKey if it is missing, a link, readable by others, malformed or locked.
    """
    return read_signer_folder(folder / role, role, passphrase=passphrase)


def load_recipient(
    folder: Path, name: RecipientName = "serving", *, passphrase: str | None = None
) -> Recipient:
    """A recipient's decryption key below `folder`.

    Raises: BadKey as `load_signer` does.
    """
    return read_recipient_folder(folder / name, passphrase=passphrase)


def encode_public_keys(trust: Trust, root: PublicPair) -> bytes:
    """Every public key that a policy names, as `public.json` holds them."""
    roles = {role: [to_json(key) for key in holders.keys] for role, holders in trust.roles.items()}
    recipients = [to_json(record) for record in trust.recipients]
    return canonical.encode(
        {"root": to_json(PairRecord.of(root)), "roles": roles, "recipients": recipients}
    )


def _load_existing_root(folder: Path) -> PublicPair:
    # Private folders may be elsewhere: an offline root, roles of other machines, a KMS.
    missing = sorted({ROOT, TRUST, RULES} - {entry.name for entry in folder.iterdir()})
    if missing:
        raise BadKey(
            f"{folder} is not empty and lacks {missing[0]}",
            remedy="choose a new folder; keys are only ever created all together",
            code="trust.key_home_busy",
        )
    return load_root(folder / ROOT)


def _write_halves(
    home: Path,
    signers: Mapping[Role, Signer],
    recipients: Mapping[RecipientName, Recipient],
    passphrase: str | None,
) -> None:
    halves: dict[str, dict[str, Any]] = {
        role: one.private_halves() for role, one in signers.items()
    }
    for name, recipient in recipients.items():
        halves.setdefault(name, {}).update(recipient.private_halves())
    for holder, keys in halves.items():
        write_private(home / holder, keys, passphrase)


def _make_first_trust(
    signers: Mapping[Role, Signer], recipients: Mapping[RecipientName, Recipient]
) -> Trust:
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    first = Trust(
        version=1,
        epoch=1,
        created=created,
        roles={
            role: RoleKeys((PairRecord.of(signer.public),))
            for role, signer in signers.items()
            if role != "root"
        },
        recipients=tuple(
            RecipientRecord.of(name, recipient.public) for name, recipient in recipients.items()
        ),
    )
    return replace(first, enrolled=dict.fromkeys(first.key_ids, created))
