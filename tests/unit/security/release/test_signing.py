import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import BadKey, Untrusted
from security.formats import envelope
from security.policy.documents import Rules, sign_rules
from security.policy.gates import GateRule
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import open_bundle
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_release,
    verify_release,
)


def test_a_good_release_verifies_step_by_step(home: Any, released: SimpleNamespace) -> None:
    verified = verify_release(released.folder, policy=home.policy, name="delays", version=1)
    assert verified.release == released.release
    assert verified.digest == released.release.digest
    assert [step.title for step in verified.steps] == [
        "files",
        "release",
        "identity",
        "provenance",
        "build",
        "gates",
        "thresholds",
        "card",
        "payload",
    ]
    assert verified.steps[6].finding == "2 of 2 hold under this policy"


def test_a_verified_release_opens_to_the_files_that_were_sealed(
    home: Any, released: SimpleNamespace, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    verified = verify_release(released.folder, policy=home.policy)
    into = open_bundle(
        released.folder, verified.release, recipient=home.recipient, into=tmp_path / "open"
    )
    assert {path.name: path.read_bytes() for path in into.iterdir()} == plain_files
    assert into.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["release.dsse.json", "provenance.dsse.json", "gates.dsse.json"])
@pytest.mark.parametrize("half", [0, 1])
def test_a_stripped_half_anywhere_is_untrusted(
    home: Any, released: SimpleNamespace, name: str, half: int
) -> None:
    fields = json.loads((released.folder / name).read_bytes())
    del fields["signatures"][half]
    (released.folder / name).write_text(json.dumps(fields))
    with pytest.raises(Untrusted, match="not signed as"):
        verify_release(released.folder, policy=home.policy)


@pytest.mark.parametrize("wanted", [("other", 1), ("delays", 2), (None, 7), ("other", None)])
def test_another_name_or_version_is_untrusted(
    home: Any, released: SimpleNamespace, wanted: tuple[Any, Any]
) -> None:
    with pytest.raises(Untrusted, match="not"):
        verify_release(released.folder, policy=home.policy, name=wanted[0], version=wanted[1])


def test_a_trainers_key_cannot_sign_a_release(
    home: Any, released: SimpleNamespace, resign: Any
) -> None:
    resign(released.folder / "release.dsse.json", home.signers["trainer"], lambda statement: None)
    with pytest.raises(Untrusted, match="enrolled as trainer"):
        verify_release(released.folder, policy=home.policy)
    with pytest.raises(BadKey, match="cannot sign as releaser"):
        home.signers["trainer"].require("releaser")


@pytest.mark.parametrize(
    "edit",
    [
        lambda build: build["data"]["flights"].update(commit="ef" * 32),
        lambda build: build.update(codeCommit="f" * 40),
        lambda build: build.update(lockSha256="99" * 32),
        lambda build: build.update(featuresSha256="99" * 32),
        lambda build: build["hyperparameters"].update(max_iter=101),
        lambda build: build.update(codeClean=False),
    ],
)
def test_inputs_substituted_by_a_releaser_disagree_with_the_provenance(
    home: Any, released: SimpleNamespace, resign: Any, edit: Any
) -> None:
    def change(statement: dict[str, Any]) -> None:
        edit(statement["predicate"]["build"])

    resign(released.folder / "release.dsse.json", home.signers["releaser"], change)
    with pytest.raises(Untrusted, match="other inputs"):
        verify_release(released.folder, policy=home.policy)


@pytest.mark.parametrize("commit", ["main", "ab" * 16, "AB" * 32])
def test_a_branch_name_is_not_a_pin(
    home: Any, released: SimpleNamespace, resign: Any, commit: str
) -> None:
    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["build"]["data"]["flights"]["commit"] = commit

    resign(released.folder / "release.dsse.json", home.signers["releaser"], change)
    with pytest.raises(Untrusted, match="full commit id"):
        verify_release(released.folder, policy=home.policy)


def test_manifests_swapped_between_models_are_untrusted(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    home.make_release(tmp_path / "p", tmp_path / "2", version=2, files={"model.onnx": b"other"})
    for name in ("release.dsse.json", "provenance.dsse.json", "gates.dsse.json"):
        attacked = tmp_path / f"with-{name}"
        shutil.copytree(released.folder, attacked)
        shutil.copy(tmp_path / "2" / name, attacked / name)
        with pytest.raises(Untrusted):
            verify_release(attacked, policy=home.policy)


def test_a_payload_of_another_release_is_untrusted(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    home.make_release(tmp_path / "p", tmp_path / "2", version=2)
    sealed = Path("payload/model.onnx.sealed")
    shutil.copy(tmp_path / "2" / sealed, released.folder / sealed)
    with pytest.raises(Untrusted, match="signed digest"):
        verify_release(released.folder, policy=home.policy)


def test_a_failed_gate_is_signed_as_failed_and_never_released(home: Any, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match=r"log_loss = 0\.46"):
        home.make_release(
            tmp_path / "p", tmp_path / "1", measured={"log_loss": 0.46, "roc_auc": 0.9}
        )
    assert not (tmp_path / "1" / "release.dsse.json").exists()
    assert not (tmp_path / "1" / "card.md").exists()
    fields = json.loads((tmp_path / "1" / "gates.dsse.json").read_bytes())
    statement = json.loads(envelope.decode64(fields["payload"], ""))
    assert statement["predicate"]["result"] == "FAILED"
    assert statement["predicate"]["failedTests"] == ["log_loss"]


def relabel(statement: dict[str, Any]) -> None:
    statement["predicate"]["headrace_gates"]["results"][0]["value"] = "0.99"


def weaken(statement: dict[str, Any]) -> None:
    result = statement["predicate"]["headrace_gates"]["results"][0]
    result["value"] = result["threshold"] = "0.99"


def drop(statement: dict[str, Any]) -> None:
    del statement["predicate"]["headrace_gates"]["results"][0]
    statement["predicate"]["passedTests"] = ["roc_auc"]


def loosen_comparator(statement: dict[str, Any]) -> None:
    result = statement["predicate"]["headrace_gates"]["results"][0]
    result["comparator"] = ">="
    result["value"] = "0.99"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (relabel, "its own values say"),
        (weaken, "weaker than"),
        (drop, "no evidence for log_loss"),
        (loosen_comparator, "no evidence for log_loss"),
    ],
)
def test_a_gatekeeper_cannot_relabel_weaken_or_drop_a_gate(
    home: Any, released: SimpleNamespace, resign: Any, edit: Any, reason: str
) -> None:
    """The gatekeeper and the releaser conspire; the verifier's own policy still decides."""
    gates = released.folder / "gates.dsse.json"
    resign(gates, home.signers["gatekeeper"], edit)
    payload = envelope.decode64(json.loads(gates.read_bytes())["payload"], "")
    results = json.loads(payload)["predicate"]["headrace_gates"]["results"]

    def follow(statement: dict[str, Any]) -> None:
        statement["predicate"]["gates"] = results
        statement["predicate"]["evidenceSha256"] = hashlib.sha256(payload).hexdigest()

    resign(released.folder / "release.dsse.json", home.signers["releaser"], follow)
    with pytest.raises(Untrusted, match=reason):
        verify_release(released.folder, policy=home.policy)


def test_evidence_about_another_payload_is_untrusted(
    home: Any, released: SimpleNamespace, tmp_path: Path, written: Any
) -> None:
    other = written(tmp_path / "other", {"model.onnx": b"a better model"})
    sign_gates(
        released.folder,
        Measurement(model="delays", files=other, values={"log_loss": 0.1, "roc_auc": 0.99}),
        policy=home.policy,
        signer=home.signers["gatekeeper"],
    )
    with pytest.raises(Untrusted, match="not the one that the release names"):
        verify_release(released.folder, policy=home.policy)
    with pytest.raises(Untrusted, match="about another model"):
        sign_release(
            released.folder,
            ReleaseTerms(
                version=2, card="", created="2013-07-01T00:00:00Z", created_by="ana", reason="x"
            ),
            policy=home.policy,
            signer=home.signers["releaser"],
        )


def test_evidence_about_the_same_payload_of_another_origin_is_untrusted(
    home: Any, released: SimpleNamespace, resign: Any
) -> None:
    def elsewhere(statement: dict[str, Any]) -> None:
        statement["predicate"]["headrace_gates"]["buildSha256"] = "00" * 32

    gates = released.folder / "gates.dsse.json"
    resign(gates, home.signers["gatekeeper"], elsewhere)
    payload = envelope.decode64(json.loads(gates.read_bytes())["payload"], "")

    def follow(statement: dict[str, Any]) -> None:
        statement["predicate"]["evidenceSha256"] = hashlib.sha256(payload).hexdigest()

    resign(released.folder / "release.dsse.json", home.signers["releaser"], follow)
    with pytest.raises(Untrusted, match="about a model of another origin"):
        verify_release(released.folder, policy=home.policy)


def test_a_stricter_policy_refuses_what_an_earlier_one_passed(
    home: Any, released: SimpleNamespace
) -> None:
    def under(bound: str) -> TrustPolicy:
        gates = {"delays": (GateRule("log_loss", "<=", bound),)}
        rules = Rules(version=2, created="2013-08-01T00:00:00Z", gates=gates)
        signed = sign_rules(rules, home.signers["policy"])
        trust = (home.folder / "trust.dsse.json").read_bytes()
        return TrustPolicy.parse(trust, signed, root=home.policy.root)

    with pytest.raises(Untrusted, match=r"judged by 0\.45, weaker than 0\.40"):
        verify_release(released.folder, policy=under("0.40"))
    verified = verify_release(released.folder, policy=under("0.50"))
    assert "under earlier rules" in verified.steps[5].finding


def test_a_model_without_gates_is_never_released(home: Any, tmp_path: Path, build: Any) -> None:
    with pytest.raises(Untrusted, match="sets no gate"):
        home.make_release(
            tmp_path / "p", tmp_path / "1", build=dataclasses.replace(build, model="unheard-of")
        )


def test_a_metric_that_was_not_measured_is_no_evidence(home: Any, tmp_path: Path) -> None:
    with pytest.raises(Untrusted, match="roc_auc, which was not measured"):
        home.make_release(tmp_path / "p", tmp_path / "1", measured={"log_loss": 0.1})
    with pytest.raises(Untrusted, match="nan"):
        home.make_release(
            tmp_path / "p", tmp_path / "2", measured={"log_loss": float("nan"), "roc_auc": 1}
        )


@pytest.mark.parametrize(
    "name", [".hidden", "extra.json", "payload/.hidden", "payload/extra.sealed"]
)
def test_a_file_added_is_untrusted(home: Any, released: SimpleNamespace, name: str) -> None:
    (released.folder / name).write_text("x")
    with pytest.raises(Untrusted, match="files are not"):
        verify_release(released.folder, policy=home.policy)


@pytest.mark.parametrize(
    "name", ["card.md", "recipients.json", "gates.dsse.json", "payload/model.onnx.sealed"]
)
def test_a_file_missing_or_renamed_is_untrusted(
    home: Any, released: SimpleNamespace, name: str
) -> None:
    (released.folder / name).rename(released.folder / f"{name}x")
    with pytest.raises(Untrusted):
        verify_release(released.folder, policy=home.policy)
    (released.folder / f"{name}x").unlink()
    with pytest.raises(Untrusted):
        verify_release(released.folder, policy=home.policy)


LINKED = ["release.dsse.json", "card.md", "recipients.json", "payload/model.onnx.sealed"]


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        *((name, plant) for name in LINKED for plant in ("symlink", "hard link", "fifo")),
        ("payload", "symlink"),
        ("payload", "fifo"),
    ],
)
def test_links_and_devices_are_untrusted(
    home: Any, released: SimpleNamespace, tmp_path: Path, name: str, plant: str
) -> None:
    path, away = released.folder / name, tmp_path / "away"
    path.rename(away)
    if plant == "symlink":
        path.symlink_to(away)
    elif plant == "fifo":
        os.mkfifo(path)
    else:
        os.link(away, path)
    with pytest.raises(Untrusted):
        verify_release(released.folder, policy=home.policy)


def test_a_changed_card_is_untrusted(home: Any, released: SimpleNamespace) -> None:
    with (released.folder / "card.md").open("a") as card:
        card.write("Approved for everything.\n")
    with pytest.raises(Untrusted, match="card"):
        verify_release(released.folder, policy=home.policy)


def test_each_flipped_byte_of_the_small_files_is_untrusted(
    home: Any, released: SimpleNamespace
) -> None:
    for name in ("release.dsse.json", "provenance.dsse.json", "gates.dsse.json", "card.md"):
        path = released.folder / name
        good = path.read_bytes()
        # Key ids are hints that nobody reads; every other byte counts.
        for place in [place for place in range(0, len(good), 97) if not in_hint(good, place)]:
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(Untrusted):
                verify_release(released.folder, policy=home.policy)
        path.write_bytes(good)


def in_hint(data: bytes, place: int) -> bool:
    start = data.rfind(b'"keyid":"', 0, place)
    return start >= 0 and place < start + 9 + 64


def test_the_digest_is_the_statements_and_not_the_envelopes(
    home: Any, released: SimpleNamespace
) -> None:
    path = released.folder / "release.dsse.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=2))
    assert verify_release(released.folder, policy=home.policy).digest == released.release.digest


def test_the_same_evidence_can_be_released_under_the_next_number(
    home: Any, released: SimpleNamespace
) -> None:
    again = sign_release(
        released.folder,
        ReleaseTerms(
            version=2,
            card="# Delays 2\n",
            created="2013-07-01T00:00:00Z",
            created_by="ana",
            reason="the number was taken",
            parent=released.release.digest,
        ),
        policy=home.policy,
        signer=home.signers["releaser"],
    )
    verified = verify_release(released.folder, policy=home.policy, name="delays", version=2)
    assert verified.release == again
    assert verified.release.parent == released.release.digest
    assert verified.release.bundle == released.release.bundle


def test_a_payload_above_the_policys_limit_is_refused(home: Any, released: SimpleNamespace) -> None:
    limits = dataclasses.replace(home.policy.rules.limits, sealed_bytes=1000)
    rules = dataclasses.replace(home.policy.rules, version=2, limits=limits)
    trust = (home.folder / "trust.dsse.json").read_bytes()
    signed = sign_rules(rules, home.signers["policy"])
    policy = TrustPolicy.parse(trust, signed, root=home.policy.root)
    with pytest.raises(Untrusted, match="larger than the policy's"):
        verify_release(released.folder, policy=policy)


@pytest.mark.parametrize("text", ["two\nlines", "a\u202eb", "a\u200bb", "", "x" * 501, "\x00"])
def test_who_and_why_are_one_visible_line(home: Any, released: SimpleNamespace, text: str) -> None:
    with pytest.raises(Untrusted):
        sign_release(
            released.folder,
            ReleaseTerms(
                version=2, card="", created="2013-07-01T00:00:00Z", created_by="ana", reason=text
            ),
            policy=home.policy,
            signer=home.signers["releaser"],
        )


def test_a_release_binds_the_digests_of_its_data(home: Any, tmp_path: Path, build: Any) -> None:
    bound = dataclasses.replace(build, data_sha256={"flights": "55" * 32})
    home.make_release(tmp_path / "p", tmp_path / "1", build=bound)
    verified = verify_release(tmp_path / "1", policy=home.policy)
    assert verified.release.build.data_sha256 == {"flights": "55" * 32}
    fields = json.loads((tmp_path / "1" / "provenance.dsse.json").read_bytes())
    statement = json.loads(envelope.decode64(fields["payload"], "payload"))
    named = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "dataset/flights", "digest": {"sha256": "55" * 32}} in named
