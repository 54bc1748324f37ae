"""Bundles: payload files sealed once under a fresh key, which is wrapped for each recipient.

Recipients can be added without touching the payload. Removing one protects later bundles only:
this one's key is already known to them.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Encryptor

from security.errors import Untrusted
from security.files import check_name, list_names, publish_folder
from security.keys.pairs import SEAL_SUITE, Opener, PublicRecipient
from security.release.payload_encryption import (
    SEALED,
    check_sealed_file,
    make_context,
    open_file,
    seal_file,
)
from security.release.provenance import SealedBundle
from security.release.stanzas import Stanzas, read_stanzas, unwrap_key, wrap_key, write_stanzas
from security.release.statement import ModelRelease

PAYLOAD = "payload"
MAX_FILES = 32


@dataclass(frozen=True)
class Bundle:
    """A sealed folder on this machine: `payload/` and `recipients.json`."""

    folder: Path
    sealed: SealedBundle


def seal(
    files: Mapping[str, Path], *, recipients: Collection[PublicRecipient], out: Path
) -> Bundle:
    """Encrypt `files` (name to plain file) for `recipients` into the new folder `out`.

    Reads each file once, in bounded memory; `out` appears whole or not at all.
    Raises: Untrusted for a name or file that may not be sealed; FileExistsError for `out`.
    """
    names = sorted(check_name(name) for name in files)
    if not 1 <= len(names) <= MAX_FILES:
        raise Untrusted(f"a bundle has 1 to {MAX_FILES} files")
    bundle_id, key = secrets.token_hex(32), Cobblestone256Encryptor.generate_key()
    stanzas = tuple(wrap_key(key, bundle_id=bundle_id, recipient=one) for one in recipients)
    with publish_folder(out) as folder:
        write_stanzas(folder, Stanzas(bundle_id, SEAL_SUITE, stanzas))
        sealed = _seal_all({name: files[name] for name in names}, bundle_id, key, folder)
    return Bundle(out, sealed)


def open_bundle(folder: Path, release: ModelRelease, *, recipient: Opener, into: Path) -> Path:
    """Decrypt a verified release's payload into the new private folder `into`.

    Every name, size and digest is compared with the release; `into` appears only when the last
    chunk of the last file is authenticated.
    Raises: CannotDecrypt, the same for every cause; Untrusted if files differ from the release.
    """
    return open_sealed_bundle(folder, release.bundle, recipient=recipient, into=into)


def open_sealed_bundle(
    folder: Path, sealed: SealedBundle, *, recipient: Opener, into: Path
) -> Path:
    """`open_bundle` for a bundle whose names and digests were verified in another statement."""
    _check_file_set(folder, sealed)
    key = unwrap_key(_read_own_stanzas(folder, sealed), recipient)
    count = len(sealed.files)
    with publish_folder(into) as private:
        for index, file in enumerate(sealed.files):
            bound_to = make_context(sealed.bundle_id, index=index, count=count, name=file.name)
            open_file(folder / PAYLOAD, private, file=file, key=key, bound_to=bound_to)
    return into


def add_recipient(folder: Path, *, recipient: Opener, new: PublicRecipient) -> None:
    """Wrap the bundle's key for one more recipient; the payload is not touched.

    `recipient` is a key that can open the bundle already. Adding one twice changes nothing.
    """
    listed = read_stanzas(folder)
    if listed.names(new.recipient_id):
        return
    key = unwrap_key(listed, recipient)
    added = wrap_key(key, bundle_id=listed.bundle_id, recipient=new)
    write_stanzas(folder, Stanzas(listed.bundle_id, listed.suite, (*listed.recipients, added)))


def check_bundle(folder: Path, sealed: SealedBundle) -> int:
    """Compare a sealed folder with the signed names, lengths and digests; needs no key.

    Returns the number of recipients. Raises: Untrusted for the first difference.
    """
    _check_file_set(folder, sealed)
    for file in sealed.files:
        check_sealed_file(folder / PAYLOAD, file)
    return len(_read_own_stanzas(folder, sealed).recipients)


def _seal_all(files: Mapping[str, Path], bundle_id: str, key: bytes, folder: Path) -> SealedBundle:
    payload = folder / PAYLOAD
    payload.mkdir(mode=0o700)
    sealed = []
    for index, (name, path) in enumerate(files.items()):
        bound_to = make_context(bundle_id, index=index, count=len(files), name=name)
        sealed.append(seal_file(path, payload, name=name, key=key, bound_to=bound_to))
    return SealedBundle(bundle_id, SEAL_SUITE, tuple(sealed))


def _check_file_set(folder: Path, sealed: SealedBundle) -> None:
    if sealed.suite != SEAL_SUITE:
        raise Untrusted(
            f"the payload is sealed with an unknown suite {sealed.suite[:60]!r}",
            code="trust.unknown_suite",
        )
    expected = {file.name + SEALED for file in sealed.files}
    differing = sorted(list_names(folder / PAYLOAD) ^ expected)
    if differing:
        raise Untrusted(
            f"the payload's files are not the signed ones: {differing[0][:80]!r}",
            code="trust.unlisted_file",
        )


def _read_own_stanzas(folder: Path, sealed: SealedBundle) -> Stanzas:
    stanzas = read_stanzas(folder)
    if (stanzas.bundle_id, stanzas.suite) != (sealed.bundle_id, sealed.suite):
        raise Untrusted(
            "the recipients' stanzas belong to another bundle or suite", code="trust.contradictory"
        )
    return stanzas
