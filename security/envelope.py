"""DSSE envelopes in which every signer signs twice: Ed25519 and ML-DSA-65 over the same bytes.

Nothing in an envelope chooses a key or an algorithm. Key ids are hints for people; the verifier
tries the pairs that its policy allows, and counts pairs, never signatures.
Source: https://github.com/secure-systems-lab/dsse (protocol and envelope, v1).
"""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass

from security import canonical
from security.errors import Untrusted
from security.pairs import (
    ED25519_SIGNATURE_BYTES,
    MLDSA65_SIGNATURE_BYTES,
    PublicPair,
    Signer,
)

INTOTO = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 4 * 2**20
MAX_SIGNATURES = 16


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


def sign(payload: bytes, payload_type: str, *signers: Signer) -> bytes:
    """The envelope of `payload`: two signatures from each signer."""
    message = _pre_authentication_encoding(payload, payload_type)
    signatures = [
        {"keyid": signer.public.key_id, "sig": encode64(signature)}
        for signer in signers
        for signature in signer.sign(message)
    ]
    return canonical.encode(
        {"payload": encode64(payload), "payloadType": payload_type, "signatures": signatures}
    )


def verify(
    envelope: bytes, *, signers: Collection[PublicPair], payload_type: str, threshold: int = 1
) -> Verified:
    """The payload, if `threshold` of the allowed pairs each signed it with both halves.

    Raises: Untrusted otherwise.
    """
    payload, signatures = _open(envelope, payload_type)
    message = _pre_authentication_encoding(payload, payload_type)
    allowed = {pair.key_id: pair for pair in signers}
    found = tuple(key for key, pair in allowed.items() if _signed_by(pair, signatures, message))
    if threshold < 1 or len(found) < threshold:
        raise Untrusted(
            f"{len(found)} of the {max(threshold, 1)} signing pairs required have signed: "
            "both an Ed25519 and an ML-DSA-65 signature of one enrolled pair are needed"
        )
    return Verified(payload, found)


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
        raise Untrusted(f"{where} is not base64") from None
    if encode64(data) != text:
        raise Untrusted(f"{where} is not base64 in canonical form")
    return data


def _pre_authentication_encoding(payload: bytes, payload_type: str) -> bytes:
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _open(envelope: bytes, payload_type: str) -> tuple[bytes, list[bytes]]:
    fields = canonical.parse(envelope, max_bytes=MAX_ENVELOPE_BYTES)
    if fields.keys() != {"payload", "payloadType", "signatures"}:
        raise Untrusted("the envelope does not have exactly payload, payloadType and signatures")
    if fields["payloadType"] != payload_type:
        raise Untrusted(f"the envelope does not hold {payload_type}")
    return decode64(fields["payload"], "the payload"), _signatures(fields["signatures"])


def _signatures(entries: object) -> list[bytes]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SIGNATURES:
        raise Untrusted(f"an envelope has 1 to {MAX_SIGNATURES} signatures")
    return [_signature(entry) for entry in entries]


def _signature(entry: object) -> bytes:
    if not isinstance(entry, dict) or not {"sig"} <= entry.keys() <= {"sig", "keyid"}:
        raise Untrusted("a signature has exactly sig and keyid")
    return decode64(entry["sig"], "a signature")


def _signed_by(pair: PublicPair, signatures: list[bytes], message: bytes) -> bool:
    """Both halves, from this one pair. Lengths tell the two kinds apart."""
    classical = [sig for sig in signatures if len(sig) == ED25519_SIGNATURE_BYTES]
    quantum = [sig for sig in signatures if len(sig) == MLDSA65_SIGNATURE_BYTES]
    return any(pair.verifies_ed25519(sig, message) for sig in classical) and any(
        pair.verifies_mldsa65(sig, message) for sig in quantum
    )
