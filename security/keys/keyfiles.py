"""A role's private halves as PKCS#8 PEM: files in a private folder, or one text of several blocks.

<role>/  ed25519.pem mldsa65.pem         a signer
         mlkem768.pem x25519.pem         a recipient; a role that does both has all four
         salt                            if the files are locked with a passphrase
"""

import ctypes
import os
import re
import resource
import secrets
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
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

from security.errors import BadKey
from security.files import create_private, sync_folder
from security.keys.pairs import Recipient, Role, Signer

MIN_PASSPHRASE = 12
_SALT = "salt"
_MAX_KEY_BYTES = 64 * 2**10
_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----", re.ASCII)

Load = Callable[[str, type[Any]], Any]


def forbid_core_dumps() -> None:
    """No core file of this process, however it dies; called before any private key is read.

    Python cannot promise to wipe keys from memory; this keeps them out of files.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit does not hold for a core_pattern that pipes; PR_SET_DUMPABLE does.
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def write_private(folder: Path, halves: Mapping[str, Any], passphrase: str | None) -> None:
    """The private keys, by algorithm, in the new folder (0700), each in a file of its own (0600).

    Raises: BadKey for a weak passphrase, before anything is written.
    """
    salt = secrets.token_bytes(16)
    lock = _make_lock(passphrase, salt)
    folder.mkdir(mode=0o700)
    if passphrase is not None:
        write_new(folder / _SALT, salt)
    for algorithm, key in halves.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        write_new(folder / f"{algorithm}.pem", pem)
    sync_folder(folder)


def replace_private(folder: Path, halves: Mapping[str, Any], passphrase: str | None) -> None:
    """Other private keys in the place of those of the same algorithms, under the folder's lock.

    For a folder that nobody reads yet. Raises: BadKey if the lock and the passphrase disagree.
    """
    if not folder.is_dir():
        write_private(folder, halves, passphrase)
        return
    if (passphrase is None) == (folder / _SALT).exists():
        problem = "is locked, and there is no passphrase" if passphrase is None else "is not locked"
        raise BadKey(
            f"{folder.name} {problem}",
            remedy="give the passphrase it was made with",
            code="trust.key_locked",
        )
    salt = read_private(folder / _SALT) if passphrase is not None else b""
    lock = _make_lock(passphrase, salt)
    for algorithm, key in halves.items():
        (folder / f"{algorithm}.pem").unlink(missing_ok=True)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        write_new(folder / f"{algorithm}.pem", pem)


def set_aside(folder: Path, aside: Path) -> None:
    """Move a recipient's private keys to the new folder `aside`, still under the same lock."""
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside.mkdir(mode=0o700)
    for algorithm in ("mlkem768", "x25519"):
        (folder / f"{algorithm}.pem").rename(aside / f"{algorithm}.pem")
    if (folder / _SALT).exists():
        write_new(aside / _SALT, read_private(folder / _SALT))


def write_new(path: Path, data: bytes) -> None:
    """A new private file, durable before this returns."""
    with create_private(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_signer_folder(folder: Path, role: Role, *, passphrase: str | None = None) -> Signer:
    """The pair whose files lie in `folder`. Raises: BadKey."""
    return _load_signer(role, _read_from_folder(folder, passphrase))


def read_recipient_folder(folder: Path, *, passphrase: str | None = None) -> Recipient:
    """The decryption key whose files lie in `folder`. Raises: BadKey."""
    return _load_recipient(_read_from_folder(folder, passphrase))


def parse_signer(text: str, role: Role, *, where: str) -> Signer:
    """The pair in a text of PEM blocks that came from `where`. Raises: BadKey."""
    return _load_signer(role, _read_from_text(text, where))


def parse_recipient(text: str, *, where: str) -> Recipient:
    """The decryption key in a text of PEM blocks. Raises: BadKey."""
    return _load_recipient(_read_from_text(text, where))


def read_private(path: Path) -> bytes:
    """A small file that only its owner can read.

    Raises: BadKey if it is missing, a link of either kind, or open to others.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        remedy = "run `headrace keys init`, or copy the role's folder here; links are not followed"
        raise BadKey(
            f"{path} is missing, or is a link", remedy=remedy, code="trust.key_missing"
        ) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise BadKey(f"{path} is not a regular file with a single name")
        if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise BadKey(
                f"{path} can be read by others",
                remedy=f"chmod 600 {path}",
                code="trust.key_exposed",
            )
        return file.read(_MAX_KEY_BYTES)


def read_passphrase(path: Path) -> str:
    """The passphrase in a private file of one line.

    Raises: BadKey if it is missing, readable by others, or not one line of text.
    """
    try:
        text = read_private(path).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text:
        raise BadKey(f"{path} does not hold a passphrase of one line")
    return text


def make_passphrase(path: Path) -> str:
    """The passphrase in the file, which is made with 256 random bits if there is none.

    Raises: BadKey as `read_passphrase` does.
    """
    if not path.exists() and not path.is_symlink():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, secrets.token_hex(32).encode("ascii") + b"\n")
        sync_folder(path.parent)
    return read_passphrase(path)


def _load_signer(role: Role, load: Load) -> Signer:
    return Signer(role, load("ed25519", Ed25519PrivateKey), load("mldsa65", MLDSA65PrivateKey))


def _load_recipient(load: Load) -> Recipient:
    return Recipient(load("mlkem768", MLKEM768PrivateKey), load("x25519", X25519PrivateKey))


def _read_from_folder(folder: Path, passphrase: str | None) -> Load:
    forbid_core_dumps()
    if folder.is_symlink() or not folder.is_dir():
        raise BadKey(
            f"there is no key folder {folder}",
            remedy="run `headrace keys init`",
            code="trust.key_missing",
        )
    password = None
    if passphrase is not None:
        if not (folder / _SALT).exists():
            raise BadKey(
                f"{folder} is not locked", remedy="give no passphrase", code="trust.key_locked"
            )
        password = _stretch(passphrase, read_private(folder / _SALT))

    def load(algorithm: str, kind: type[Any]) -> Any:
        path = folder / f"{algorithm}.pem"
        key = _parse_pem(str(path), read_private(path), password)
        if not isinstance(key, kind):
            raise BadKey(f"{path} does not hold the kind of key its name says")
        return key

    return load


def _read_from_text(text: str, where: str) -> Load:
    forbid_core_dumps()
    if len(text) > _MAX_KEY_BYTES:
        raise BadKey(f"{where} is too long to be keys")
    keys = [
        _parse_pem(where, block.encode("utf-8", "replace"), None) for block in _BLOCK.findall(text)
    ]

    def load(algorithm: str, kind: type[Any]) -> Any:
        found = [key for key in keys if isinstance(key, kind)]
        if len(found) != 1:
            raise BadKey(
                f"{where} holds {len(found)} {algorithm} private keys, not one",
                remedy="put the role's PEM files into it, one behind the other",
            )
        return found[0]

    return load


def _make_lock(passphrase: str | None, salt: bytes) -> KeySerializationEncryption:
    if passphrase is None:
        return NoEncryption()
    return BestAvailableEncryption(_stretch(passphrase, salt))


def _stretch(passphrase: str, salt: bytes) -> bytes:
    """PKCS#8's own key derivation is fast to guess; Argon2id (RFC 9106, second choice) is not."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise BadKey(
            f"the passphrase is shorter than {MIN_PASSPHRASE} characters",
            remedy="use several random words, or `openssl rand -hex 32`",
        )
    derived = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=64 * 1024)
    return derived.derive(passphrase.encode("utf-8")).hex().encode("ascii")


def _parse_pem(where: str, pem: bytes, password: bytes | None) -> object:
    try:
        return load_pem_private_key(pem, password)
    except TypeError:
        remedy = "give the passphrase" if password is None else "give no passphrase"
        raise BadKey(
            f"{where} cannot be unlocked", remedy=remedy, code="trust.key_locked"
        ) from None
    except (ValueError, UnsupportedAlgorithm, InternalError):
        # The library's message may quote what it read.
        raise BadKey(f"{where} is malformed, or the passphrase is wrong") from None
