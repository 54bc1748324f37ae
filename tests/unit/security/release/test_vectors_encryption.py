"""Encryption judged by other people's vectors: X-Wing, HPKE, ML-KEM-768, Cobblestone, Argon2id.

HPKE's key schedule is written out once more here, from RFC 9180 and a plain HMAC, so that what
`Recipient` opens was not made by the library that opens it.
"""

import hashlib
import hmac
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from security.errors import CannotDecrypt, SecurityError
from security.keys.pairs import Recipient
from security.release.payload_encryption import SEALED, open_file
from security.release.provenance import SealedFile

VECTORS = Path(__file__).parents[1] / "vectors"
X_WING, HKDF_SHA256, AES_256_GCM, CHACHA20_POLY1305 = 0x647A, 0x0001, 0x0002, 0x0003


def read_vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["tests"]
    return found


def x_wing_recipient(seed: bytes) -> Recipient:
    """draft-connolly-cfrg-xwing-kem, section 5.2: SHAKE-256 of the seed is both private keys."""
    expanded = hashlib.shake_256(seed).digest(96)
    return Recipient(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )


def x_wing_secret(recipient: Recipient, enc: bytes) -> bytes:
    """Section 5.3: both shared secrets, X25519's ciphertext and key, and the label."""
    halves = recipient.private_halves()
    inner = halves["mlkem768"].decapsulate(enc[:1088])
    outer = halves["x25519"].exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    label = rb"\./" + rb"/^\ "[:3]
    own = recipient.public.x25519
    return hashlib.sha3_256(inner + outer + enc[1088:] + own + label).digest()


def extract(salt: bytes, label: bytes, ikm: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(prk: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\1", "sha256")[:length]


def hpke_key_and_nonce(secret: bytes, info: bytes, *, aead: int) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1, in base mode with HKDF-SHA256."""
    suite = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (X_WING, HKDF_SHA256, aead))
    context = b"\0" + extract(b"", b"psk_id_hash", b"", suite)
    context += extract(b"", b"info_hash", info, suite)
    prk = extract(secret, b"secret", b"", suite)
    return expand(prk, b"key", context, 32, suite), expand(prk, b"base_nonce", context, 12, suite)


@pytest.mark.parametrize("vector", read_vectors("x_wing"), ids=lambda v: v["seed"][:8])
def test_our_recipient_opens_what_the_x_wing_draft_encapsulated(vector: dict[str, Any]) -> None:
    recipient = x_wing_recipient(bytes.fromhex(vector["seed"]))
    assert (recipient.public.mlkem768 + recipient.public.x25519).hex() == vector["pk"]
    enc, secret = bytes.fromhex(vector["ct"]), bytes.fromhex(vector["ss"])
    assert x_wing_secret(recipient, enc) == secret
    key, nonce = hpke_key_and_nonce(secret, b"a bundle", aead=AES_256_GCM)
    wrapped = enc + AESGCM(key).encrypt(nonce, b"k" * 32, b"")
    assert recipient.unwrap(wrapped, info=b"a bundle") == b"k" * 32
    with pytest.raises(CannotDecrypt):
        recipient.unwrap(wrapped, info=b"another bundle")


@pytest.mark.parametrize(
    "vector", [v for v in read_vectors("hpke_x_wing") if v["kdf_id"] == HKDF_SHA256]
)
def test_the_key_schedule_written_here_is_that_of_draft_ietf_hpke_pq(
    vector: dict[str, Any],
) -> None:
    secret, info = bytes.fromhex(vector["shared_secret"]), bytes.fromhex(vector["info"])
    key, nonce = hpke_key_and_nonce(secret, info, aead=CHACHA20_POLY1305)
    assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])
    recipient = x_wing_recipient(bytes.fromhex(vector["skRm"]))
    assert (recipient.public.mlkem768 + recipient.public.x25519).hex() == vector["pkRm"]
    assert x_wing_secret(recipient, bytes.fromhex(vector["enc"])) == secret


def test_what_we_wrap_opens_with_the_key_schedule_written_here() -> None:
    recipient = Recipient.generate()
    wrapped = recipient.public.wrap(b"k" * 32, info=b"a bundle")
    assert len(wrapped) == 1120 + 32 + 16
    secret = x_wing_secret(recipient, wrapped[:1120])
    key, nonce = hpke_key_and_nonce(secret, b"a bundle", aead=AES_256_GCM)
    assert AESGCM(key).decrypt(nonce, wrapped[1120:], b"") == b"k" * 32


@pytest.mark.parametrize("vector", read_vectors("mlkem_768"), ids=lambda v: f"tc{v['tcId']}")
def test_ml_kem_768_is_that_of_wycheproof(vector: dict[str, Any]) -> None:
    if vector["result"] == "invalid":
        with pytest.raises(ValueError, match="seed"):
            MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(vector["seed"]))
        return
    private = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(vector["seed"]))
    public = MLKEM768PublicKey.from_public_bytes(bytes.fromhex(vector["ek"]))
    assert private.public_key().public_bytes_raw() == public.public_bytes_raw()
    assert private.decapsulate(bytes.fromhex(vector["c"])).hex() == vector["K"]


@pytest.mark.parametrize("vector", read_vectors("cobblestone_256"), ids=lambda v: f"tc{v['tcId']}")
def test_our_streams_open_what_the_reference_implementation_sealed(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    """Wycheproof's vectors of C2SP chunked encryption, made by filippo.io/cobblestone."""
    sealed = inflated(vector["ct"])
    file = SealedFile("m", vector.get("msgLength", 0), "", len(sealed), "")
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload" / f"m{SEALED}").write_bytes(sealed)
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["ctx"])
    if vector["result"] == "invalid":
        with pytest.raises((SecurityError, ValueError)):
            open_file(tmp_path / "payload", tmp_path, file=file, key=key, bound_to=context)
        return
    stream = Cobblestone256Decryptor(key, context)
    plain = stream.update(sealed) + stream.finalize()
    assert hashlib.sha512(plain).hexdigest() == vector["msgSha512"]
    exact = SealedFile("m", len(plain), hashlib.sha256(plain).hexdigest(), len(sealed), "")
    open_file(tmp_path / "payload", tmp_path, file=exact, key=key, bound_to=context)
    assert (tmp_path / "m").read_bytes() == plain


def inflated(text: str) -> bytes:
    return zlib.decompress(bytes.fromhex(text))


def test_argon2id_is_that_of_rfc_9106() -> None:
    """Section 5.3."""
    derived = Argon2id(
        salt=b"\2" * 16,
        length=32,
        iterations=3,
        lanes=4,
        memory_cost=32,
        ad=b"\4" * 12,
        secret=b"\3" * 8,
    ).derive(b"\1" * 32)
    assert derived.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
