"""DSSE envelopes in which every signer signs twice: Ed25519 and ML-DSA-65 over the same bytes.

Nothing in an envelope chooses a key or an algorithm. The verifier tries the pairs that its policy
allows, and counts pairs, never signatures. A key id can only take a signature away from a pair:
one that claims to be another pair's counts for neither.
Source: https://github.com/secure-systems-lab/dsse (protocol and envelope, v1).
"""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from security.errors import Untrusted, format_error
from security.formats import canonical

INTOTO = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 4 * 2**20
MAX_SIGNATURES = 16


class VerifyingPair(Protocol):
    """The public half of a signing pair, as far as an envelope needs it."""

    @property
    def key_id(self) -> str:
        """The pair's name in envelopes: a hint, never a choice."""

    def has_signed(self, message: bytes, signatures: Collection[bytes]) -> bool:
        """Whether both of the pair's halves over `message` are among `signatures`."""


class SigningPair(Protocol):
    """A signing pair, as far as an envelope needs it."""

    @property
    def public(self) -> VerifyingPair:
        """What its signatures verify under."""

    def sign(self, message: bytes, /) -> tuple[bytes, bytes]:
        """The Ed25519 and the ML-DSA-65 signature over the same message."""


@dataclass(frozen=True)
class Verified:
    """Bytes whose signatures held, and the pairs that made them.

    `payload` is what was verified: use it, and never parse the envelope again.
    """

    payload: bytes
    key_ids: tuple[str, ...]

    @property
    def key_id(self) -> str:
        """The first pair that signed."""
        return self.key_ids[0]


@dataclass(frozen=True)
class _Signature:
    """One entry of an envelope: the bytes, and whose they claim to be."""

    data: bytes
    key_id: str | None


def sign(payload: bytes, payload_type: str, *signers: SigningPair) -> bytes:
    """The envelope of `payload`: two signatures from each signer."""
    message = _encode_for_signing(payload, payload_type)
    signatures = [
        {"keyid": signer.public.key_id, "sig": encode64(signature)}
        for signer in signers
        for signature in signer.sign(message)
    ]
    return canonical.encode(
        {"payload": encode64(payload), "payloadType": payload_type, "signatures": signatures}
    )


def add_signature(envelope: bytes, payload_type: str, signer: SigningPair) -> bytes:
    """The same envelope with one more signer's two signatures behind the others.

    The caller has verified and judged the payload. Raises: Untrusted if the envelope is full.
    """
    payload, signatures = _open(envelope, payload_type)
    if len(signatures) + 2 > MAX_SIGNATURES:
        raise format_error(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    own = canonical.parse(sign(payload, payload_type, signer))
    standing = canonical.parse(envelope, max_bytes=MAX_ENVELOPE_BYTES)
    return canonical.encode({**standing, "signatures": standing["signatures"] + own["signatures"]})


def verify(
    envelope: bytes, *, signers: Collection[VerifyingPair], payload_type: str, threshold: int = 1
) -> Verified:
    """The payload, if `threshold` of the allowed pairs each signed it with both halves.

    Raises: Untrusted otherwise.
    """
    payload, signatures = _open(envelope, payload_type)
    message = _encode_for_signing(payload, payload_type)
    allowed = {pair.key_id: pair for pair in signers}
    found = tuple(key for key, pair in allowed.items() if _has_signed(pair, signatures, message))
    if threshold < 1 or len(found) < threshold:
        code = "trust.too_few_signatures" if found else "trust.bad_signature"
        raise Untrusted(
            f"{len(found)} of the {max(threshold, 1)} signing pairs required have signed: "
            "both an Ed25519 and an ML-DSA-65 signature of one enrolled pair are needed",
            code=code,
        )
    return Verified(payload, found)


def read_unverified_payload(envelope: bytes, payload_type: str) -> bytes:
    """The payload of an envelope that nobody vouches for: only to compare its digest.

    Raises: Untrusted if it is no envelope of that type.
    """
    return _open(envelope, payload_type)[0]


def read_payload_signed_by(envelope: bytes, pair: VerifyingPair) -> bytes | None:
    """The payload, of whatever type, if `pair` signed the envelope with both halves."""
    try:
        kind = canonical.parse(envelope, max_bytes=MAX_ENVELOPE_BYTES).get("payloadType")
        if not isinstance(kind, str):
            return None
        return verify(envelope, signers=[pair], payload_type=kind).payload
    except Untrusted:
        return None


def encode64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: object, where: str) -> bytes:
    """Read standard base64 in its one canonical form.

    Raises: Untrusted for other alphabets, missing padding, white space and stray trailing bits.
    """
    try:
        data = base64.b64decode(text if isinstance(text, str) else "*", validate=True)
    except (binascii.Error, ValueError):
        raise format_error(f"{where} is not base64") from None
    if encode64(data) != text:
        raise format_error(f"{where} is not base64 in canonical form")
    return data


def _encode_for_signing(payload: bytes, payload_type: str) -> bytes:
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _open(envelope: bytes, payload_type: str) -> tuple[bytes, list[_Signature]]:
    fields = canonical.parse(envelope, max_bytes=MAX_ENVELOPE_BYTES)
    if fields.keys() != {"payload", "payloadType", "signatures"}:
        raise format_error("the envelope does not have exactly payload, payloadType and signatures")
    if fields["payloadType"] != payload_type:
        raise format_error(f"the envelope does not hold {payload_type}")
    return decode64(fields["payload"], "the payload"), _read_signatures(fields["signatures"])


def _read_signatures(entries: object) -> list[_Signature]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SIGNATURES:
        raise format_error(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    return [_read_signature(entry) for entry in entries]


def _read_signature(entry: object) -> _Signature:
    if not isinstance(entry, dict) or not {"sig"} <= entry.keys() <= {"sig", "keyid"}:
        raise format_error("a signature has exactly sig and keyid")
    key_id = entry.get("keyid")
    if not isinstance(key_id, str | None):
        raise format_error("a key id is not text")
    return _Signature(decode64(entry["sig"], "a signature"), key_id)


def _has_signed(pair: VerifyingPair, signatures: list[_Signature], message: bytes) -> bool:
    # A key id never chooses a key; one that names another pair is a lie, and does not count.
    return pair.has_signed(message, [s.data for s in signatures if s.key_id in (None, pair.key_id)])
