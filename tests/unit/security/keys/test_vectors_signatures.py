"""Signatures judged by other people's vectors: DSSE's own encoding, Ed25519 and ML-DSA-65."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from security.errors import BadKey
from security.formats import envelope
from security.keys.pairs import PublicPair, Signer

VECTORS = Path(__file__).parents[1] / "vectors"
OTHER = Signer.generate("trainer").public


def read_vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["tests"]
    return found


def judged_ed25519(vector: dict[str, Any]) -> bool:
    try:
        pair = PublicPair(bytes.fromhex(vector["publicKey"]), OTHER.mldsa65)
    except BadKey:
        return False
    return pair.verifies_ed25519(bytes.fromhex(vector["sig"]), bytes.fromhex(vector["msg"]))


def judged_mldsa65(vector: dict[str, Any]) -> bool:
    try:
        pair = PublicPair(OTHER.ed25519, bytes.fromhex(vector["publicKey"]))
    except BadKey:
        return False
    return pair.verifies_mldsa65(bytes.fromhex(vector["sig"]), bytes.fromhex(vector["msg"]))


@pytest.mark.parametrize("vector", read_vectors("ed25519"), ids=lambda v: f"tc{v['tcId']}")
def test_our_pairs_judge_ed25519_as_wycheproof_does(vector: dict[str, Any]) -> None:
    assert judged_ed25519(vector) == (vector["result"] == "valid")


@pytest.mark.parametrize("vector", read_vectors("mldsa_65_verify"), ids=lambda v: f"tc{v['tcId']}")
def test_our_pairs_judge_mldsa65_as_wycheproof_does(vector: dict[str, Any]) -> None:
    """A signature under another context is invalid to us, whose context is always empty."""
    assert judged_mldsa65(vector) == (vector["result"] == "valid" and not vector.get("ctx"))


def test_the_vectors_hold_both_verdicts_of_both_algorithms() -> None:
    for name in ("ed25519", "mldsa_65_verify"):
        assert {vector["result"] for vector in read_vectors(name)} == {"valid", "invalid"}


def test_what_is_signed_is_the_encoding_of_dsse_protocol_md() -> None:
    """The reference vector of DSSE's protocol.md, signed with its own classical algorithm."""
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    signer = Signer.generate("trainer")
    signed = json.loads(envelope.sign(b"hello world", "http://example.com/HelloWorld", signer))
    classical, quantum = (
        envelope.decode64(entry["sig"], "a signature") for entry in signed["signatures"]
    )
    assert signer.public.verifies_ed25519(classical, expected)
    assert signer.public.verifies_mldsa65(quantum, expected)
    # Ed25519 is deterministic: the very bytes, from the library alone.
    alone = signer.private_halves()["ed25519"]
    assert isinstance(alone, Ed25519PrivateKey)
    assert alone.sign(expected) == classical
