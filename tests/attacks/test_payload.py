"""Attacks 1 to 9: on the sealed payload."""

import hashlib
import hmac
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from security.errors import CannotDecrypt, Untrusted
from security.release import stanzas
from security.release.bundle import seal
from security.release.payload_encryption import make_context, open_file
from security.release.provenance import SealedFile

UNIFORM = "^the sealed payload does not open with this key$"
HEADER, CHUNK = 56, 16 * 1024 + 16


def signed_anyway(target: Any) -> Any:
    """The release as if everybody had signed what the folder holds now."""
    data = target.model.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    files = tuple(
        replace(file, sealed_size=len(data), sealed_sha256=digest)
        if file.name == "model.onnx"
        else file
        for file in target.stated.bundle.files
    )
    return replace(target.stated, bundle=replace(target.stated.bundle, files=files))


@pytest.mark.parametrize("place", [0, 24, HEADER, 30_000, -1])
def test_01_one_flipped_bit_fails_authentication(target: Any, place: int) -> None:
    data = bytearray(target.model.read_bytes())
    data[place] ^= 1
    target.model.write_bytes(data)
    assert "model.onnx does not have the signed digest" in target.verify()
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open()
    target.nothing_was_published()


def reordered(data: bytes) -> bytes:
    first, second = data[HEADER:][:CHUNK], data[HEADER + CHUNK :][:CHUNK]
    return data[:HEADER] + second + first + data[HEADER + 2 * CHUNK :]


def duplicated(data: bytes) -> bytes:
    return data[: HEADER + CHUNK] + data[HEADER:]


def spliced(data: bytes) -> bytes:
    return data[: HEADER + CHUNK] + data[HEADER + 2 * CHUNK :]


@pytest.mark.parametrize("tamper", [reordered, duplicated, spliced])
def test_02_chunks_moved_about_fail_authentication(
    target: Any, tamper: Callable[[bytes], bytes]
) -> None:
    target.model.write_bytes(tamper(target.model.read_bytes()))
    assert "model.onnx does not have the signed" in target.verify()
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open(release=signed_anyway(target))
    target.nothing_was_published()


@pytest.mark.parametrize("kept", [0, HEADER, HEADER + CHUNK, -1])
def test_03_a_truncated_payload_shows_nothing(target: Any, kept: int) -> None:
    target.model.write_bytes(target.model.read_bytes()[:kept])
    assert "model.onnx does not have the signed length" in target.verify()
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open(release=signed_anyway(target))
    target.nothing_was_published()


def test_04_bytes_appended_are_refused_by_the_signed_length(target: Any) -> None:
    with target.model.open("ab") as file:
        file.write(b"x")
    assert "model.onnx does not have the signed length" in target.verify()
    with pytest.raises(Untrusted, match="signed length"):
        target.open()
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open(release=signed_anyway(target))
    target.nothing_was_published()


def test_05_two_files_of_one_bundle_swapped_do_not_open(keys: Any, target: Any) -> None:
    """Sealed under one key and of one length: only the context tells them apart."""
    plain = target.place / "same"
    plain.mkdir()
    for name in ("a.bin", "b.bin"):
        (plain / name).write_bytes(b"x" * 5000)
    out = target.place / "bundle"
    bundle = seal(
        {name: plain / name for name in ("a.bin", "b.bin")},
        recipients=[keys.recipient.public],
        out=out,
    )
    a, b = (out / "payload" / f"{name}.sealed" for name in ("a.bin", "b.bin"))
    held = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(held)
    target.folder = out
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open(release=replace(target.stated, bundle=bundle.sealed))
    target.nothing_was_published()


def test_06_a_payload_of_another_bundle_is_refused(target: Any, keys: Any) -> None:
    second = keys.release(target.place / "second")
    shutil.copy(second / "payload" / "model.onnx.sealed", target.model)
    assert "signed digest" in target.verify()
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open()
    target.nothing_was_published()


def field_product(one: int, other: int) -> int:
    """In GCM's GF(2^128), whose bits run from the left."""
    found = 0
    for bit in range(127, -1, -1):
        found ^= one if other >> bit & 1 else 0
        one = one >> 1 ^ (0xE1 << 120 if one & 1 else 0)
    return found


def field_inverse(value: int) -> int:
    found, power = 1 << 127, value
    for _ in range(127):
        power = field_product(power, power)
        found = field_product(found, power)
    return found


def hashed(subkey: int, blocks: list[int]) -> int:
    found = 0
    for block in blocks:
        found = field_product(found ^ block, subkey)
    return found


def block_of(key: bytes, data: bytes) -> int:
    encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(encrypt.update(data), "big")


def derived(key: bytes, salt: bytes, bound_to: bytes) -> tuple[bytes, bytes, bytes]:
    """C2SP chunked encryption: HKDF-Expand-SHA-512 to AES key, first nonce, and commitment."""
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + bound_to
    first = hmac.digest(key, info + b"\1", "sha512")
    out = first + hmac.digest(key, first + info + b"\2", "sha512")
    return out[:32], out[32:44], out[44:76]


def collision(first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> bytes:
    """A ciphertext and tag that AES-GCM accepts under both keys (Dodis et al., 2018)."""
    subkeys = [block_of(key, bytes(16)) for key, _ in (first, second)]
    masks = [block_of(key, nonce + b"\0\0\0\1") for key, nonce in (first, second)]
    length = 2 * 128
    tags = [hashed(h, [7, 0, length]) ^ m for h, m in zip(subkeys, masks, strict=True)]
    squares = [field_product(h, h) for h in subkeys]
    free = field_product(tags[0] ^ tags[1], field_inverse(squares[0] ^ squares[1]))
    tag = hashed(subkeys[0], [7, free, length]) ^ masks[0]
    return b"".join(part.to_bytes(16, "big") for part in (7, free, tag))


def test_07_a_multi_key_ciphertext_is_refused_by_the_commitment(target: Any) -> None:
    """AES-GCM alone takes the forged chunk under both keys; the stream's commitment does not."""
    bound_to = make_context("ab" * 32, index=0, count=1, name="m")
    keys = [Cobblestone256Encryptor.generate_key() for _ in range(2)]
    salt = b"s" * 24
    (key, nonce, ours), (other, other_nonce, theirs) = (derived(k, salt, bound_to) for k in keys)
    forged = collision((key, nonce), (other, other_nonce))
    assert AESGCM(key).decrypt(nonce, forged, b"") != AESGCM(other).decrypt(
        other_nonce, forged, b""
    )

    def opened(bundle_key: bytes, commitment: bytes) -> bytes:
        stream = Cobblestone256Decryptor(bundle_key, bound_to)
        return stream.update(salt + commitment + forged) + stream.finalize()

    assert len(opened(keys[0], ours)) == len(opened(keys[1], theirs)) == 32
    for stranger, commitment in ((keys[1], ours), (keys[0], theirs)):
        with pytest.raises(InvalidTag):
            opened(stranger, commitment)
    payload = target.place / "payload"
    payload.mkdir()
    (payload / "m.sealed").write_bytes(salt + ours + forged)
    file = SealedFile("m", 32, "0" * 64, HEADER + 48, "0" * 64)
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        open_file(payload, target.place, file=file, key=keys[1], bound_to=bound_to)


def test_07_a_recipient_given_another_bundle_key_opens_nothing(target: Any) -> None:
    stanza = stanzas.wrap_key(
        Cobblestone256Encryptor.generate_key(),
        bundle_id=target.stated.bundle.bundle_id,
        recipient=target.keys.recipient.public,
    )
    listed = stanzas.read_stanzas(target.folder)
    stanzas.write_stanzas(target.folder, replace(listed, recipients=(stanza,)))
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        target.open()
    target.nothing_was_published()


def test_08_no_key_or_salt_is_ever_used_twice(target: Any, keys: Any) -> None:
    """And nobody can ask for it: sealing takes no key, no nonce and no salt."""
    import inspect

    assert set(inspect.signature(seal).parameters) == {"files", "recipients", "out"}
    again = keys.release(target.place / "again")
    heads = [path.read_bytes()[:HEADER] for path in sorted(target.model.parent.iterdir())]
    heads += [path.read_bytes()[:HEADER] for path in sorted((again / "payload").iterdir())]
    assert len(set(heads)) == len(heads) == 4


@pytest.mark.parametrize("name", [".hidden", "second.json", "payload/.hidden", "payload/b.sealed"])
def test_09_a_file_more_is_refused(target: Any, name: str) -> None:
    (target.folder / name).write_bytes(b"x")
    assert "files are not" in target.verify()


@pytest.mark.parametrize("name", ["card.md", "recipients.json", "payload/model.onnx.sealed"])
def test_09_a_file_less_or_renamed_is_refused(target: Any, name: str) -> None:
    path = target.folder / name
    path.rename(path.with_name("renamed"))
    assert "files are not" in target.verify()
    path.with_name("renamed").unlink()
    assert "files are not" in target.verify()
