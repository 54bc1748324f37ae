"""Keys as fixed pairs: a signer is Ed25519 + ML-DSA-65, a recipient X25519 + ML-KEM-768 (X-Wing).

Neither half is ever used, named or enrolled alone; the id of a key is a hash over both halves.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from security.errors import BadKey, CannotDecrypt

Role = Literal["root", "policy", "trainer", "gatekeeper", "releaser", "timestamp"]
ROLES: tuple[Role, ...] = ("root", "policy", "trainer", "gatekeeper", "releaser", "timestamp")
RecipientName = Literal["serving", "gatekeeper"]
RECIPIENTS: tuple[RecipientName, ...] = ("serving", "gatekeeper")

# Names of the two fixed compositions, as policies and bundles write them: signing, sealing.
SIGNATURE_SUITE = "ed25519+ml-dsa-65"
SEAL_SUITE = "x-wing+hkdf-sha256+aes-256-gcm+cobblestone-256"
ED25519_SIGNATURE_BYTES = 64
MLDSA65_SIGNATURE_BYTES = 3309

_P = 2**255 - 19
# y of the two classes of points of order 8; with 0, 1 and -1 they are all of small order.
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


@dataclass(frozen=True)
class PublicPair:
    """The public half of a signer.

    Raises: BadKey if a half is malformed, or the Ed25519 half is a point of small order (under
    which one signature can hold for many messages).
    """

    ed25519: bytes
    mldsa65: bytes

    def __post_init__(self) -> None:
        if len(self.ed25519) != 32 or len(self.mldsa65) != 1952:
            raise BadKey("a public pair is 32 bytes of Ed25519 and 1952 bytes of ML-DSA-65")
        y = int.from_bytes(self.ed25519, "little") & (2**255 - 1)
        if y >= _P or y in _SMALL_ORDER_Y:
            raise BadKey("the Ed25519 key is a point of small order, or not in canonical form")

    @cached_property
    def key_id(self) -> str:
        """SHA-256 over both halves, hex: a hint in envelopes, a name for people."""
        return hashlib.sha256(b"headrace.dev/pair/v1\0" + self.ed25519 + self.mldsa65).hexdigest()

    def verifies_ed25519(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this pair's classical half over `message`."""
        return _holds(Ed25519PublicKey.from_public_bytes(self.ed25519), signature, message)

    def verifies_mldsa65(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this pair's post-quantum half over `message`."""
        return _holds(MLDSA65PublicKey.from_public_bytes(self.mldsa65), signature, message)

    def has_signed(self, message: bytes, signatures: Collection[bytes]) -> bool:
        """Whether both of this pair's halves over `message` are among `signatures`.

        Lengths tell the two kinds apart.
        """
        classical = [one for one in signatures if len(one) == ED25519_SIGNATURE_BYTES]
        quantum = [one for one in signatures if len(one) == MLDSA65_SIGNATURE_BYTES]
        return any(self.verifies_ed25519(one, message) for one in classical) and any(
            self.verifies_mldsa65(one, message) for one in quantum
        )


@dataclass(frozen=True)
class PublicRecipient:
    """Whom a bundle key is wrapped for."""

    mlkem768: bytes
    x25519: bytes

    def __post_init__(self) -> None:
        if len(self.mlkem768) != 1184 or len(self.x25519) != 32:
            raise BadKey("a recipient is 1184 bytes of ML-KEM-768 and 32 bytes of X25519")

    @cached_property
    def recipient_id(self) -> str:
        """SHA-256 over both halves, hex."""
        halves = self.mlkem768 + self.x25519
        return hashlib.sha256(b"headrace.dev/recipient/v1\0" + halves).hexdigest()

    def wrap(self, secret: bytes, *, info: bytes) -> bytes:
        """`secret` for this recipient alone, bound to `info` (HPKE base mode)."""
        try:
            public = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.mlkem768),
                X25519PublicKey.from_public_bytes(self.x25519),
            )
            return _HPKE.encrypt(secret, public, info=info)
        except ValueError as error:
            raise BadKey("the recipient's public key is malformed") from error


class RoleSigner(Protocol):
    """A role that signs, wherever its private pair is: in files, in a KMS, behind a command."""

    @property
    def role(self) -> Role:
        """The only role it signs as."""

    @property
    def public(self) -> PublicPair:
        """What its signatures verify under."""

    def sign(self, message: bytes, /) -> tuple[bytes, bytes]:
        """The Ed25519 and the ML-DSA-65 signature over the same message. Raises: BadKey."""

    def require(self, role: Role, /) -> "RoleSigner":
        """Itself, if it holds `role`. Raises: BadKey."""


class Opener(Protocol):
    """Somebody for whom bundles are sealed, wherever the private key is."""

    @property
    def public(self) -> PublicRecipient:
        """Whose stanza it opens."""

    def unwrap(self, wrapped: bytes, /, *, info: bytes) -> bytes:
        """The secret that was wrapped for it under `info`. Raises: CannotDecrypt."""


class _Secret:
    """Something that never shows, copies or serialises what it holds."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds private keys and is never serialised")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds private keys and is never serialised")


class Signer(_Secret):
    """A role's private pair; it signs a message twice or not at all."""

    __slots__ = ("_ed25519", "_mldsa65", "public", "role")

    def __init__(self, role: Role, ed25519: Ed25519PrivateKey, mldsa65: MLDSA65PrivateKey) -> None:
        self.role = role
        self._ed25519 = ed25519
        self._mldsa65 = mldsa65
        self.public = PublicPair(
            ed25519.public_key().public_bytes_raw(), mldsa65.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls, role: Role) -> "Signer":
        """A fresh pair."""
        return cls(role, Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())

    def sign(self, message: bytes) -> tuple[bytes, bytes]:
        """The Ed25519 and the ML-DSA-65 signature over the same `message`."""
        return self._ed25519.sign(message), self._mldsa65.sign(message)

    def require(self, role: Role) -> "Signer":
        """This signer, if it holds `role`.

        Raises: BadKey otherwise.
        """
        refuse_other_role(self.role, role)
        return self

    def private_halves(self) -> dict[str, Any]:
        """The two private keys by algorithm, for the key files alone."""
        return {"ed25519": self._ed25519, "mldsa65": self._mldsa65}

    def __repr__(self) -> str:
        return f"<Signer {self.role} {self.public.key_id[:12]}, private keys withheld>"


class Recipient(_Secret):
    """The private key that opens bundles sealed for it."""

    __slots__ = ("_mlkem768", "_x25519", "public")

    def __init__(self, mlkem768: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem768 = mlkem768
        self._x25519 = x25519
        self.public = PublicRecipient(
            mlkem768.public_key().public_bytes_raw(), x25519.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> "Recipient":
        """A fresh key."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    def unwrap(self, wrapped: bytes, *, info: bytes) -> bytes:
        """The secret that was wrapped for this key under `info`.

        Raises: CannotDecrypt without saying which part failed.
        """
        private = MLKEM768X25519PrivateKey(self._mlkem768, self._x25519)
        try:
            return _HPKE.decrypt(wrapped, private, info=info)
        except (InvalidTag, ValueError):
            raise CannotDecrypt("the wrapped key does not open") from None

    def private_halves(self) -> dict[str, Any]:
        """The two private keys by algorithm, for the key files alone."""
        return {"mlkem768": self._mlkem768, "x25519": self._x25519}

    def __repr__(self) -> str:
        return f"<Recipient {self.public.recipient_id[:12]}, private keys withheld>"


def refuse_other_role(holds: Role, wanted: Role) -> None:
    """No role ever signs for another. Raises: BadKey."""
    if holds != wanted:
        raise BadKey(
            f"the {holds}'s key cannot sign as {wanted}",
            remedy=f"run this where the {wanted}'s key is, and nowhere else",
            code="trust.wrong_role",
        )


_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _holds(key: Ed25519PublicKey | MLDSA65PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
