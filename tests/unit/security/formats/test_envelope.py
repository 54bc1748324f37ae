import base64
import json
from typing import Any

import pytest

from security.errors import BadKey, Untrusted
from security.formats import envelope
from security.keys.pairs import PublicPair, Signer

TYPE = "application/vnd.test+json"
PAYLOAD = b'{"a":1}'
ANA, BO = Signer.generate("trainer"), Signer.generate("releaser")


def signed(*signers: Signer, payload: bytes = PAYLOAD) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(envelope.sign(payload, TYPE, *signers))
    return fields


def verify(fields: dict[str, Any], *signers: Signer, threshold: int = 1) -> envelope.Verified:
    return envelope.verify(
        json.dumps(fields).encode(),
        signers=[signer.public for signer in signers],
        payload_type=TYPE,
        threshold=threshold,
    )


def test_both_halves_of_an_allowed_pair_verify() -> None:
    verified = verify(signed(ANA), ANA, BO)
    assert verified.payload == PAYLOAD
    assert verified.key_ids == (ANA.public.key_id,)


def test_the_signed_bytes_are_dsse_pre_authentication_encoding() -> None:
    classical = base64.b64decode(signed(ANA)["signatures"][0]["sig"])
    message = b"DSSEv1 25 application/vnd.test+json 7 " + PAYLOAD
    assert ANA.public.verifies_ed25519(classical, message)


@pytest.mark.parametrize("stripped", [0, 1], ids=["classical", "post-quantum"])
def test_one_half_alone_is_untrusted(stripped: int) -> None:
    fields = signed(ANA)
    del fields["signatures"][stripped]
    with pytest.raises(Untrusted, match="0 of the 1"):
        verify(fields, ANA)


def test_halves_from_two_signers_are_untrusted() -> None:
    fields, other = signed(ANA), signed(BO)
    fields["signatures"][1] = other["signatures"][1]
    with pytest.raises(Untrusted):
        verify(fields, ANA, BO)


def test_two_classical_halves_do_not_meet_a_threshold_of_two() -> None:
    fields, other = signed(ANA), signed(BO)
    fields["signatures"] = [fields["signatures"][0], other["signatures"][0]]
    with pytest.raises(Untrusted):
        verify(fields, ANA, BO, threshold=2)


def test_the_same_pair_twice_counts_once() -> None:
    with pytest.raises(Untrusted, match="1 of the 2"):
        verify(signed(ANA, ANA), ANA, BO, threshold=2)
    assert len(verify(signed(ANA, BO), ANA, BO, threshold=2).key_ids) == 2


def test_the_same_pair_allowed_twice_counts_once() -> None:
    with pytest.raises(Untrusted):
        verify(signed(ANA), ANA, ANA, threshold=2)


@pytest.mark.parametrize("junk", [b"", b"x" * 64, b"x" * 3309, b"x" * 100])
def test_a_junk_signature_first_changes_nothing(junk: bytes) -> None:
    fields = signed(ANA)
    fields["signatures"].insert(0, {"keyid": "?", "sig": base64.b64encode(junk).decode()})
    assert verify(fields, ANA).payload == PAYLOAD


def test_the_number_of_signatures_is_capped() -> None:
    fields = signed(ANA)
    fields["signatures"] *= envelope.MAX_SIGNATURES
    with pytest.raises(Untrusted, match="1 to 16 signatures"):
        verify(fields, ANA)
    fields["signatures"] = []
    with pytest.raises(Untrusted, match="1 to 16 signatures"):
        verify(fields, ANA)


def test_a_lying_key_id_counts_for_nobody() -> None:
    """The policy decides who may sign; a signature under another's name is neither's."""
    fields = signed(ANA)
    for signature in fields["signatures"]:
        signature["keyid"] = BO.public.key_id
    for allowed in ([ANA], [BO], [ANA, BO]):
        with pytest.raises(Untrusted, match="0 of the 1"):
            verify(fields, *allowed)


def test_a_key_id_may_be_absent_and_must_be_text() -> None:
    fields = signed(ANA)
    for signature in fields["signatures"]:
        del signature["keyid"]
    assert verify(fields, BO, ANA).key_id == ANA.public.key_id
    fields["signatures"][0]["keyid"] = 7
    with pytest.raises(Untrusted, match="key id is not text"):
        verify(fields, ANA)


@pytest.mark.parametrize("field", ["publicKey", "alg", "certificate"])
def test_an_embedded_key_or_algorithm_is_refused(field: str) -> None:
    fields = signed(ANA)
    fields["signatures"][0][field] = "ed25519"
    with pytest.raises(Untrusted):
        verify(fields, ANA)
    with pytest.raises(Untrusted):
        verify({**signed(ANA), field: "none"}, ANA)


def test_another_payload_type_is_untrusted() -> None:
    fields = {**signed(ANA), "payloadType": "application/json"}
    with pytest.raises(Untrusted, match="does not hold"):
        verify(fields, ANA)
    # The type is signed too: renaming both sides does not help.
    with pytest.raises(Untrusted, match="0 of the 1"):
        envelope.verify(
            json.dumps(fields).encode(), signers=[ANA.public], payload_type="application/json"
        )


def test_an_unknown_signer_is_untrusted_and_nobody_is_nobody() -> None:
    with pytest.raises(Untrusted):
        verify(signed(ANA), BO)
    with pytest.raises(Untrusted):
        verify(signed(ANA))
    with pytest.raises(Untrusted):
        verify(signed(ANA), BO, threshold=0)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_flipped_payload_byte_is_untrusted(place: int) -> None:
    fields = signed(ANA)
    changed = bytearray(PAYLOAD)
    changed[place] ^= 1
    fields["payload"] = base64.b64encode(changed).decode()
    with pytest.raises(Untrusted):
        verify(fields, ANA)


@pytest.mark.parametrize("half", [0, 1])
def test_one_flipped_signature_bit_is_untrusted(half: int) -> None:
    fields = signed(ANA)
    changed = bytearray(base64.b64decode(fields["signatures"][half]["sig"]))
    changed[10] ^= 1
    fields["signatures"][half]["sig"] = base64.b64encode(changed).decode()
    with pytest.raises(Untrusted):
        verify(fields, ANA)


def test_a_malleated_ed25519_signature_is_untrusted() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    fields = signed(ANA)
    raw = base64.b64decode(fields["signatures"][0]["sig"])
    scalar = int.from_bytes(raw[32:], "little") + order
    fields["signatures"][0]["sig"] = base64.b64encode(
        raw[:32] + scalar.to_bytes(32, "little")
    ).decode()
    with pytest.raises(Untrusted):
        verify(fields, ANA)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.rstrip("=") + "=" * 4,
        lambda text: text.replace("=", ""),
        lambda text: "eyJhIjoxfR==",
        lambda text: text.replace("e", "-"),
        lambda text: None,
        lambda text: 7,
    ],
)
def test_base64_in_any_other_form_is_refused(edit: Any) -> None:
    fields = signed(ANA)
    assert fields["payload"] == "eyJhIjoxfQ=="
    fields["payload"] = edit(fields["payload"])
    with pytest.raises(Untrusted, match="base64"):
        verify(fields, ANA)


def test_two_payload_fields_are_untrusted() -> None:
    text = json.dumps(signed(ANA))
    doubled = text[:-1] + ',"payload":"e30="}'
    with pytest.raises(Untrusted, match="twice"):
        envelope.verify(doubled.encode(), signers=[ANA.public], payload_type=TYPE)


def test_an_oversized_envelope_is_refused_before_parsing() -> None:
    with pytest.raises(Untrusted, match="larger than"):
        envelope.verify(b"{" * (envelope.MAX_ENVELOPE_BYTES + 1), signers=[], payload_type=TYPE)


def test_small_order_ed25519_keys_are_refused() -> None:
    p = 2**255 - 19
    for y in small_order_ys():
        for sign_bit in (0, 1):
            key = (y | sign_bit << 255).to_bytes(32, "little")
            with pytest.raises(BadKey, match="small order"):
                PublicPair(key, ANA.public.mldsa65)
    with pytest.raises(BadKey):
        PublicPair((p + 1).to_bytes(32, "little"), ANA.public.mldsa65)


def small_order_ys() -> set[int]:
    """Multiply random curve points by the group's prime order: what remains has small order."""
    p, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    d = -121665 * pow(121666, -1, p) % p

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        k = d * a[0] * b[0] * a[1] * b[1] % p
        x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, p) % p
        return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, p) % p

    def times(n: int, point: tuple[int, int]) -> tuple[int, int]:
        total = (0, 1)
        for bit in bin(n)[2:]:
            total = add(total, total)
            if bit == "1":
                total = add(total, point)
        return total

    found = set()
    for y in range(2, 40):
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        if (x * x - square) % p:
            x = x * pow(2, (p - 1) // 4, p) % p
        if (x * x - square) % p == 0:
            found.add(times(order, (x, y))[1])
    assert len(found) == 5
    return found
