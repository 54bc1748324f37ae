"""One payload file sealed or opened as a Cobblestone-256 stream, in bounded memory.

Cobblestone is C2SP chunked encryption: 24 bytes of salt, 32 of key commitment, then chunks of
16 KiB with a tag each. Only the last chunk is shorter, so truncation cannot pass; key and nonces
are derived afresh from the salt and the context, so there is no nonce to choose. Source: https://c2sp.org/chunked-encryption
"""

import hashlib
import os
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from security.errors import Untrusted, cannot_decrypt
from security.files import create_private, open_regular
from security.release.provenance import SealedFile

SEALED = ".sealed"

_CHUNK_BYTES = 256 * 2**10
# Room for what the cipher held back from the last call, its header and its tags.
_SPARE_BYTES = 64 * 2**10


def make_context(bundle_id: str, *, index: int, count: int, name: str) -> bytes:
    """What one stream is bound to: fixed-size fields first, so no two contexts share bytes."""
    place = index.to_bytes(4, "big") + count.to_bytes(4, "big")
    return b"headrace.dev/payload/v1\0" + bytes.fromhex(bundle_id) + place + name.encode("ascii")


def seal_file(path: Path, payload: Path, *, name: str, key: bytes, bound_to: bytes) -> SealedFile:
    """Encrypt `path` into `payload/<name>.sealed`, hashing both sides in the same read."""
    plain, sealed = _Tally(), _Tally()
    encryptor = Cobblestone256Encryptor(key, bound_to)

    def write(data: Any) -> None:
        sealed.add(data)
        target.write(data)

    with open_regular(path) as source, create_private(payload / (name + SEALED)) as target:
        _pass_through(source, plain.add, encryptor.update_into, write)
        write(encryptor.finalize())
    return SealedFile(name, plain.size, plain.digest, sealed.size, sealed.digest)


def open_file(payload: Path, into: Path, *, file: SealedFile, key: bytes, bound_to: bytes) -> None:
    """Decrypt a sealed file into `into/<name>`; the caller must not publish `into` on an error.

    Raises: CannotDecrypt if it does not authenticate; Untrusted if size or digest differ.
    """
    plain = _Tally()
    decryptor = Cobblestone256Decryptor(key, bound_to)

    def write(data: Any) -> None:
        plain.add(data)
        target.write(data)

    sealed_path = payload / (file.name + SEALED)
    with open_regular(sealed_path) as source, create_private(into / file.name) as target:
        _check_length(source, file)
        try:
            _pass_through(source, lambda _data: None, decryptor.update_into, write)
            write(decryptor.finalize())
        except InvalidTag:
            raise cannot_decrypt(f"{file.name} does not authenticate") from None
    if (plain.size, plain.digest) != (file.size, file.sha256):
        raise Untrusted(
            f"{file.name} does not have the signed size and digest", code="trust.digest_mismatch"
        )


def check_sealed_file(payload: Path, file: SealedFile) -> None:
    """Compare a sealed file's length and digest with the signed ones; needs no key.

    Raises: Untrusted if either differs.
    """
    with open_regular(payload / (file.name + SEALED)) as source:
        _check_length(source, file)
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    if digest != file.sealed_sha256:
        raise Untrusted(
            f"{file.name} does not have the signed digest", code="trust.digest_mismatch"
        )


class _Tally:
    """Size and SHA-256 of what passes by."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, data: Any) -> None:
        self.size += len(data)
        self._hash.update(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _pass_through(
    source: BufferedReader,
    seen: Callable[[Any], None],
    turn: Callable[[Any, Any], int],
    write: Callable[[Any], None],
) -> None:
    """Pass `source` through `turn` with two buffers that are reused at any size."""
    incoming, outgoing = bytearray(_CHUNK_BYTES), bytearray(_CHUNK_BYTES + _SPARE_BYTES)
    fresh, turned = memoryview(incoming), memoryview(outgoing)
    while count := source.readinto(incoming):
        seen(fresh[:count])
        write(turned[: turn(fresh[:count], outgoing)])


def _check_length(source: BufferedReader, file: SealedFile) -> None:
    # Before reading: an appended gigabyte costs nothing.
    if os.fstat(source.fileno()).st_size != file.sealed_size:
        raise Untrusted(
            f"{file.name} does not have the signed length", code="trust.digest_mismatch"
        )
