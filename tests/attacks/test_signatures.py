"""Attacks 10 to 25: on signatures, keys and roles."""

import ast
import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import security.release.verify
from security.errors import BadKey, Untrusted
from security.formats import envelope
from security.formats.envelope import INTOTO
from security.keys.pairs import PublicPair, Signer
from security.policy.documents import PairRecord, Revocation, RoleKeys, sign_rules, sign_trust
from security.policy.trust_policy import TrustPolicy
from security.release.signing import verify_release

NAMES = ["release.dsse.json", "provenance.dsse.json", "gates.dsse.json"]
L = 2**252 + 27742317777372353535851937790883648493


def under(keys: Any, **changes: Any) -> TrustPolicy:
    """The policy after the root signed another edition of its trust."""
    trust = replace(keys.policy.trust, version=2, **changes)
    signed = sign_trust(trust, keys.signers["root"])
    rules = (keys.folder / "rules.dsse.json").read_bytes()
    return TrustPolicy.parse(signed, rules, root=keys.policy.root)


def replaced(keys: Any, role: str, *signers: Signer, threshold: int = 1) -> dict[str, Any]:
    pairs = tuple(PairRecord.of(signer.public) for signer in signers)
    return {**keys.policy.trust.roles, role: RoleKeys(pairs, threshold)}


def strip(length: int) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        kept = [s for s in fields["signatures"] if len(base64.b64decode(s["sig"])) != length]
        assert len(kept) == 1
        fields["signatures"] = kept

    return change


@pytest.mark.parametrize("name", [*NAMES, "trust.dsse.json", "rules.dsse.json"])
def test_10_the_post_quantum_half_stripped_is_refused(target: Any, name: str) -> None:
    target.edit(name, strip(3309))
    assert "0 of the 1 signing pairs required" in target.verify()


@pytest.mark.parametrize("name", [*NAMES, "trust.dsse.json", "rules.dsse.json"])
def test_11_the_classical_half_stripped_is_refused(target: Any, name: str) -> None:
    target.edit(name, strip(64))
    assert "0 of the 1 signing pairs required" in target.verify()


@pytest.mark.parametrize("named", [True, False], ids=["with key ids", "without"])
def test_12_halves_from_two_signers_are_refused(target: Any, keys: Any, named: bool) -> None:
    """Both are enrolled as releasers; neither has signed with both halves."""
    ana, bo = Signer.generate("releaser"), Signer.generate("releaser")
    policy = under(keys, roles=replaced(keys, "releaser", ana, bo))
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    mixed, other = (json.loads(envelope.sign(payload, INTOTO, one)) for one in (ana, bo))
    mixed["signatures"][1] = other["signatures"][1]
    if not named:
        mixed["signatures"] = [{"sig": one["sig"]} for one in mixed["signatures"]]
    path.write_text(json.dumps(mixed))
    with pytest.raises(Untrusted, match="0 of the 1 signing pairs"):
        verify_release(target.folder, policy=policy)


def test_13_two_classical_keys_do_not_meet_a_threshold_of_two(target: Any, keys: Any) -> None:
    ana, bo = Signer.generate("releaser"), Signer.generate("releaser")
    policy = under(keys, roles=replaced(keys, "releaser", ana, bo, threshold=2))
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    both = json.loads(envelope.sign(payload, INTOTO, ana, bo))
    path.write_text(json.dumps(both))
    assert verify_release(target.folder, policy=policy).release == target.stated
    strip_all = [one for one in both["signatures"] if len(base64.b64decode(one["sig"])) == 64]
    path.write_text(json.dumps({**both, "signatures": strip_all}))
    with pytest.raises(Untrusted, match="0 of the 2 signing pairs"):
        verify_release(target.folder, policy=policy)


def test_14_a_duplicate_signature_counts_once(target: Any, keys: Any) -> None:
    ana, bo = Signer.generate("releaser"), Signer.generate("releaser")
    policy = under(keys, roles=replaced(keys, "releaser", ana, bo, threshold=2))
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    path.write_bytes(envelope.sign(payload, INTOTO, ana, ana, ana))
    with pytest.raises(Untrusted, match="1 of the 2 signing pairs"):
        verify_release(target.folder, policy=policy)


@pytest.mark.parametrize("junk", [b"", b"x" * 64, b"x" * 3309, b"x" * 70])
def test_15_a_junk_signature_first_does_not_change_the_result(target: Any, junk: bytes) -> None:
    def add(fields: dict[str, Any]) -> None:
        fields["signatures"].insert(0, {"sig": base64.b64encode(junk).decode()})

    target.edit("release.dsse.json", add)
    target.verifies()


def test_15_the_number_of_signatures_is_capped(target: Any) -> None:
    def add(fields: dict[str, Any]) -> None:
        fields["signatures"] *= 9

    target.edit("release.dsse.json", add)
    assert "an envelope has 1 to 16 signatures" in target.verify()


@pytest.mark.parametrize("field", ["alg", "algorithm", "suite", "x5c"])
def test_16_a_message_cannot_choose_its_algorithm(target: Any, field: str) -> None:
    def add(fields: dict[str, Any]) -> None:
        for one in fields["signatures"]:
            one[field] = "ed25519"

    target.edit("release.dsse.json", add)
    assert "a signature has exactly sig and keyid" in target.verify()


def test_16_an_unknown_suite_is_refused_whoever_signs_it(target: Any, keys: Any) -> None:
    """The releaser alone, trainer and releaser together, and the root."""

    def weaken(statement: dict[str, Any]) -> None:
        statement["predicate"]["bundle"]["suite"] = "none"

    def weaken_provenance(statement: dict[str, Any]) -> None:
        statement["predicate"]["buildDefinition"]["internalParameters"]["bundle"]["suite"] = "none"

    def follow(statement: dict[str, Any]) -> None:
        fields = json.loads((target.folder / "provenance.dsse.json").read_bytes())
        payload = envelope.decode64(fields["payload"], "")
        statement["predicate"]["provenanceSha256"] = hashlib.sha256(payload).hexdigest()

    target.resign("release.dsse.json", "releaser", weaken)
    assert "built from other inputs than its provenance says" in target.verify()
    target.resign("provenance.dsse.json", "trainer", weaken_provenance)
    target.resign("release.dsse.json", "releaser", follow)
    assert "the payload is sealed with an unknown suite 'none'" in target.verify()
    with pytest.raises(Untrusted, match="this software knows no other"):
        under(keys, suites=("ed25519",))


@pytest.mark.parametrize("version", ["v0", "v2", "v1beta"])
def test_17_there_is_no_other_format_to_fall_back_to(target: Any, version: str) -> None:
    def older(statement: dict[str, Any]) -> None:
        statement["predicateType"] = f"https://headrace.dev/model-release/{version}"

    target.resign("release.dsse.json", "releaser", older)
    assert "the statement is not a https://headrace.dev/model-release/v1" in target.verify()


def test_18_a_lying_key_id_decides_nothing(target: Any, keys: Any) -> None:
    """A stranger signs under the releaser's name; a trainer does so under it too."""
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    for signer in (Signer.generate("releaser"), keys.signers["trainer"]):
        signed = json.loads(envelope.sign(payload, INTOTO, signer))
        for one in signed["signatures"]:
            one["keyid"] = keys.signers["releaser"].public.key_id
        path.write_text(json.dumps(signed))
        assert "not signed as releaser" in target.verify()


def test_19_a_public_key_embedded_in_the_artifact_is_never_used(target: Any, keys: Any) -> None:
    stranger = Signer.generate("releaser")
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    signed = json.loads(envelope.sign(payload, INTOTO, stranger))
    own = base64.b64encode(stranger.public.ed25519).decode()
    for place in (signed, signed["signatures"][0]):
        place["publicKey"] = own
        path.write_text(json.dumps(signed))
        assert "exactly" in target.verify()
        del place["publicKey"]
    shutil.copy(keys.folder / "root.json", target.folder / "root.json")
    assert "files are not those of a release: 'root.json'" in target.verify()


def test_20_an_unknown_key_is_refused_with_its_own_reason(target: Any) -> None:
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    path.write_bytes(envelope.sign(payload, INTOTO, Signer.generate("releaser")))
    assert "not signed as releaser: 0 of the 1" in target.verify()


def test_20_a_revoked_key_is_refused_with_its_own_reason(target: Any, keys: Any) -> None:
    old, new = keys.signers["releaser"], Signer.generate("releaser")
    policy = under(
        keys,
        roles=replaced(keys, "releaser", new),
        revoked=(Revocation(PairRecord.of(old.public), "the laptop was stolen"),),
    )
    with pytest.raises(Untrusted, match=r"was revoked \(the laptop was stolen\)"):
        verify_release(target.folder, policy=policy)


def test_20_there_is_no_trust_on_first_use(target: Any, tmp_path: Path) -> None:
    for name in ("trust.dsse.json", "rules.dsse.json"):
        (target.folder / name).unlink()
    assert "missing" in target.verify()


@pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_21_a_small_order_key_is_refused_when_enrolled(keys: Any, y: int, sign: int) -> None:
    point = (y | sign).to_bytes(32, "little")
    with pytest.raises(BadKey, match="small order"):
        PublicPair(point, keys.policy.root.mldsa65)


@pytest.mark.parametrize(
    "kind", ["application/vnd.in-toto+json ", "application/vnd.headrace.trust.v1+json", "text/x"]
)
def test_22_a_confused_payload_type_is_refused(target: Any, keys: Any, kind: str) -> None:
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    path.write_bytes(envelope.sign(payload, kind, keys.signers["releaser"]))
    assert "the envelope does not hold application/vnd.in-toto+json" in target.verify()


def test_22_a_confused_predicate_type_is_refused(target: Any, keys: Any) -> None:
    """The provenance, signed by the releaser, in the release's place."""
    fields = json.loads((target.folder / "provenance.dsse.json").read_bytes())
    payload = envelope.decode64(fields["payload"], "")
    signed = envelope.sign(payload, INTOTO, keys.signers["releaser"])
    (target.folder / "release.dsse.json").write_bytes(signed)
    assert "the statement is not a https://headrace.dev/model-release/v1" in target.verify()


@pytest.mark.parametrize("role", ["trainer", "gatekeeper", "policy", "timestamp", "root"])
def test_23_another_roles_key_cannot_sign_a_release(target: Any, role: str) -> None:
    target.resign("release.dsse.json", role, lambda statement: None)
    assert "not signed as releaser" in target.verify()


def test_23_one_key_in_two_roles_is_refused(keys: Any) -> None:
    with pytest.raises(Untrusted, match="is enrolled twice"):
        under(keys, roles=replaced(keys, "releaser", keys.signers["trainer"]))


def test_24_only_verified_bytes_are_used(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changes after it was read: what is judged is what was verified."""
    path = target.folder / "release.dsse.json"
    read = security.release.verify.read_regular

    def swap_behind(found: Path, *, max_bytes: int) -> bytes:
        data = read(found, max_bytes=max_bytes)
        if found == path:
            path.write_bytes(b'{"payload":"e30=","payloadType":"x","signatures":[]}')
        return data

    monkeypatch.setattr(security.release.verify, "read_regular", swap_behind)
    assert verify_release(target.folder, policy=target.keys.policy).release == target.stated
    source = Path(security.release.verify.__file__).read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert "b64decode" not in {getattr(call.func, "attr", "") for call in calls}


def test_25_a_malleable_envelope_is_the_same_release_or_none(target: Any) -> None:
    """Other spacing is the same identity; S + L, the other encoding of a signature, is refused."""
    path = target.folder / "release.dsse.json"
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps(fields, indent=2))
    again = verify_release(target.folder, policy=target.keys.policy)
    assert again.digest == target.stated.digest
    signature = base64.b64decode(fields["signatures"][0]["sig"])
    twisted = int.from_bytes(signature[32:], "little") + L
    fields["signatures"][0]["sig"] = base64.b64encode(
        signature[:32] + twisted.to_bytes(32, "little")
    ).decode()
    path.write_text(json.dumps(fields))
    assert "0 of the 1" in target.verify()


def test_25_the_policys_rules_are_signed_by_the_policy_role_alone(target: Any, keys: Any) -> None:
    signed = envelope.sign(
        json.dumps({}).encode(),
        "application/vnd.headrace.rules.v1+json",
        keys.signers["trainer"],
    )
    (target.folder / "rules.dsse.json").write_bytes(signed)
    assert "not signed as policy" in target.verify()
    with pytest.raises(BadKey, match="cannot sign as policy"):
        sign_rules(keys.policy.rules, keys.signers["trainer"])
