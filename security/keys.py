"""Key files: one private folder per role, so that a deployment is given its own role and no other.

    root.json  public.json  trust.dsse.json  rules.dsse.json    public; copy them anywhere
    root/  policy/  trainer/  gatekeeper/  releaser/  timestamp/    ed25519.pem mldsa65.pem
    serving/    mlkem768.pem x25519.pem

Files on one machine protect roles from each other only as far as its users and permissions do;
an attacker with root on that machine has every key on it.
"""

import ctypes
import os
import resource
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from security import canonical
from security.errors import BadKey
from security.files import create_private, published_folder, sync_folder
from security.gates import GateRule
from security.pairs import ROLES, PublicPair, PublicRecipient, Recipient, Role, Signer
from security.policy import RULES, TRUST, load_root
from security.record import to_bytes, to_json
from security.trust import (
    PairRecord,
    RecipientRecord,
    RoleKeys,
    Rules,
    Trust,
    sign_rules,
    sign_trust,
)

__all__ = ["PublicPair", "PublicRecipient", "Recipient", "Role", "Signer"]
__all__ += ["KeyHome", "init_keys", "load_recipient", "load_signer"]

ROOT = "root.json"
PUBLIC = "public.json"
SERVING = "serving"
MIN_PASSPHRASE = 12
_SALT = "salt"
_MAX_KEY_BYTES = 64 * 2**10


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
    """Create every role's key, the serving recipient and the signed policy, all at once.

    Running it again changes nothing and says so. `gates` are the first rules, by model.
    Raises: BadKey if the folder holds something else, or the passphrase is weak.
    """
    if folder.is_dir() and any(folder.iterdir()):
        return KeyHome(folder, False, _existing_root(folder))
    signers = {role: Signer.generate(role) for role in ROLES}
    recipient = Recipient.generate()
    with published_folder(folder) as home:
        for role, signer in signers.items():
            _write_private(home / role, signer.private_halves(), passphrase)
        _write_private(home / SERVING, recipient.private_halves(), passphrase)
        _write_public(home, signers, recipient)
        _write_policy(home, signers, recipient, gates or {}, skops_types)
        sync_folder(home)
    sync_folder(folder.parent)
    return KeyHome(folder, True, signers["root"].public)


def load_signer(folder: Path, role: Role, *, passphrase: str | None = None) -> Signer:
    """The private pair of `role` below `folder`.

    Raises: BadKey if it is missing, a link, readable by others, malformed or locked.
    """
    load = _loader(folder / role, passphrase)
    return Signer(role, load("ed25519", Ed25519PrivateKey), load("mldsa65", MLDSA65PrivateKey))


def load_recipient(folder: Path, *, passphrase: str | None = None) -> Recipient:
    """The serving key below `folder`.

    Raises: BadKey as `load_signer` does.
    """
    load = _loader(folder / SERVING, passphrase)
    return Recipient(load("mlkem768", MLKEM768PrivateKey), load("x25519", X25519PrivateKey))


def forbid_core_dumps() -> None:
    """Keep keys out of core files. Python cannot promise to wipe them from memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit does not hold for a core_pattern that pipes; PR_SET_DUMPABLE does.
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def _existing_root(folder: Path) -> PublicPair:
    expected = {ROOT, PUBLIC, TRUST, RULES, SERVING, *ROLES}
    missing = sorted(expected - {entry.name for entry in folder.iterdir()})
    if missing:
        raise BadKey(
            f"{folder} is not empty and lacks {missing[0]}",
            remedy="choose a new folder; keys are only ever created all together",
        )
    return load_root(folder / ROOT)


def _write_public(home: Path, signers: Mapping[Role, Signer], recipient: Recipient) -> None:
    roles = {role: to_json(PairRecord.of(signer.public)) for role, signer in signers.items()}
    serving = to_json(RecipientRecord.of(SERVING, recipient.public))
    _write(home / ROOT, to_bytes(PairRecord.of(signers["root"].public)))
    _write(home / PUBLIC, canonical.encode({"roles": roles, SERVING: serving}))


def _write_policy(
    home: Path,
    signers: Mapping[Role, Signer],
    recipient: Recipient,
    gates: Mapping[str, tuple[GateRule, ...]],
    skops_types: tuple[str, ...],
) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    enrolled = {
        role: RoleKeys((PairRecord.of(signer.public),))
        for role, signer in signers.items()
        if role != "root"
    }
    serving = (RecipientRecord.of(SERVING, recipient.public),)
    trust = Trust(version=1, epoch=1, created=now, roles=enrolled, recipients=serving)
    rules = Rules(version=1, created=now, gates=gates, skops_types=skops_types)
    _write(home / TRUST, sign_trust(trust, signers["root"]))
    _write(home / RULES, sign_rules(rules, signers["policy"]))


def _write_private(folder: Path, halves: Mapping[str, Any], passphrase: str | None) -> None:
    folder.mkdir(mode=0o700)
    lock: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        salt = secrets.token_bytes(16)
        _write(folder / _SALT, salt)
        lock = BestAvailableEncryption(_stretched(passphrase, salt))
    for algorithm, key in halves.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        _write(folder / f"{algorithm}.pem", pem)
    sync_folder(folder)


def _write(path: Path, data: bytes) -> None:
    with create_private(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _stretched(passphrase: str, salt: bytes) -> bytes:
    """PKCS#8's own key derivation is fast to guess; Argon2id (RFC 9106, second choice) is not."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise BadKey(
            f"the passphrase is shorter than {MIN_PASSPHRASE} characters",
            remedy="use several random words, or `openssl rand -hex 32`",
        )
    derived = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024)
    return derived.derive(passphrase.encode("utf-8")).hex().encode("ascii")


def _loader(folder: Path, passphrase: str | None) -> Callable[[str, type[Any]], Any]:
    forbid_core_dumps()
    if folder.is_symlink() or not folder.is_dir():
        raise BadKey(f"there is no key folder {folder}", remedy="run `headrace keys init`")
    password = None
    if passphrase is not None:
        if not (folder / _SALT).exists():
            raise BadKey(f"{folder} is not locked", remedy="give no passphrase")
        password = _stretched(passphrase, _read_private(folder / _SALT))

    def load(algorithm: str, kind: type[Any]) -> Any:
        path = folder / f"{algorithm}.pem"
        key = _parsed(path, _read_private(path), password)
        if not isinstance(key, kind):
            raise BadKey(f"{path} does not hold the kind of key its name says")
        return key

    return load


def _parsed(path: Path, pem: bytes, password: bytes | None) -> object:
    try:
        return load_pem_private_key(pem, password)
    except TypeError:
        remedy = "give the passphrase" if password is None else "give no passphrase"
        raise BadKey(f"{path} cannot be unlocked", remedy=remedy) from None
    except ValueError:
        # The library's message may quote what it read.
        raise BadKey(f"{path} is malformed, or the passphrase is wrong") from None


def _read_private(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        remedy = "run `headrace keys init`, or copy the role's folder here; links are not followed"
        raise BadKey(f"{path} is missing, or is a link", remedy=remedy) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise BadKey(f"{path} is not a regular file with a single name")
        if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise BadKey(f"{path} can be read by others", remedy=f"chmod 600 {path}")
        return file.read(_MAX_KEY_BYTES)
