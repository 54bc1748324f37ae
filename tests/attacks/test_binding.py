"""Attacks 26 to 35: on what a release is bound to, and on how fresh it is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from security.audit.log import AuditEntry, Log, Peaks, check_growth, encode_entry
from security.audit.merkle import CompactRange, hash_leaf
from security.errors import Untrusted
from security.formats import envelope
from security.policy.documents import sign_rules, sign_trust
from security.policy.floor import Floor
from security.policy.gates import GateRule
from security.policy.trust_policy import TrustPolicy
from security.release.index import (
    Index,
    NamedRelease,
    VerifiedIndex,
    sign_index,
    sign_timestamp,
    verify_index,
)
from security.release.signing import verify_release

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def index(keys: Any, number: int, previous: str | None = None, **more: Any) -> tuple[bytes, str]:
    """A signed index and its digest."""
    made = Index(
        environment="production",
        number=number,
        release=NamedRelease("delays", more.pop("version", 1), "ab" * 32, "models/delays/1"),
        actor="ana",
        reason="monthly",
        created="2013-07-01T00:00:00Z",
        previous=previous,
    )
    signed = sign_index(made, keys.signers["releaser"])
    payload = envelope.decode64(json.loads(signed)["payload"], "")
    return signed, hashlib.sha256(payload).hexdigest()


def judge(keys: Any, signed: bytes, floor: Floor, **more: Any) -> VerifiedIndex:
    return verify_index(
        signed,
        environment="production",
        policy=more.pop("policy", keys.policy),
        floor=floor,
        now=more.pop("now", NOON),
        **more,
    )


def stamp(keys: Any, signed: bytes, hours: int) -> bytes:
    current = judge(keys, signed, Floor("production"))
    return sign_timestamp(
        current,
        created=NOON,
        expires=NOON + timedelta(hours=hours),
        signer=keys.signers["timestamp"],
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("release", "the provenance is not the one that the release names"),
        ("provenance", "the provenance is not the one that the release names"),
        ("gates", "the gate evidence is not the one that the release names"),
    ],
)
def test_26_manifests_swapped_between_models_are_refused(
    target: Any, other: Path, name: str, reason: str
) -> None:
    shutil.copy(other / f"{name}.dsse.json", target.folder / f"{name}.dsse.json")
    assert reason in target.verify()


def test_26_a_release_under_another_models_name_is_refused(target: Any) -> None:
    assert "the release is delays version 1, not fares" in target.verify("--name", "fares")
    target.resign("release.dsse.json", "releaser", lambda s: s["predicate"].update(model="fares"))
    assert "names another model than its build" in target.verify()


@pytest.mark.parametrize(
    "edit",
    [
        lambda build: build["data"]["flights"].update(commit="ef" * 32),
        lambda build: build.update(codeCommit="f" * 40),
        lambda build: build.update(lockSha256="99" * 32),
        lambda build: build.update(featuresSha256="99" * 32),
        lambda build: build.update(definitionSha256="99" * 32),
    ],
    ids=["data", "code", "environment", "features", "definition"],
)
def test_27_other_inputs_substituted_are_refused(
    target: Any, edit: Callable[[dict[str, Any]], None]
) -> None:
    target.resign("release.dsse.json", "releaser", lambda s: edit(s["predicate"]["build"]))
    assert "built from other inputs than its provenance says" in target.verify()


@pytest.mark.parametrize("name", ["main", "ab" * 16, "AB" * 32])
def test_27_a_branch_name_is_never_enough(target: Any, name: str) -> None:
    def unpin(statement: dict[str, Any]) -> None:
        statement["predicate"]["build"]["data"]["flights"]["commit"] = name

    target.resign("release.dsse.json", "releaser", unpin)
    assert "is not a full commit id of 64 hex digits" in target.verify()


def follow(target: Any, edit: Callable[[dict[str, Any]], None]) -> None:
    """Gatekeeper and releaser conspire: the evidence is edited, and the release follows it."""
    target.resign("gates.dsse.json", "gatekeeper", edit)
    fields = json.loads((target.folder / "gates.dsse.json").read_bytes())
    payload = envelope.decode64(fields["payload"], "")
    gates = json.loads(payload)["predicate"]["headrace_gates"]

    def agree(statement: dict[str, Any]) -> None:
        statement["predicate"]["gates"] = gates["results"]
        statement["predicate"]["policySha256"] = gates["policySha256"]
        statement["predicate"]["evidenceSha256"] = hashlib.sha256(payload).hexdigest()

    target.resign("release.dsse.json", "releaser", agree)


def test_28_gate_results_of_another_model_are_refused(target: Any, other: Path) -> None:
    shutil.copy(other / "gates.dsse.json", target.folder / "gates.dsse.json")
    follow(target, lambda statement: None)
    assert "the gate evidence is about another model" in target.verify()


def test_28_a_weaker_threshold_is_refused(target: Any) -> None:
    def weaken(statement: dict[str, Any]) -> None:
        statement["predicate"]["headrace_gates"]["results"][0]["threshold"] = "0.99"

    follow(target, weaken)
    assert "log_loss was judged by 0.99, weaker than 0.45" in target.verify()


def test_29_a_failed_gate_relabelled_is_refused(target: Any) -> None:
    def fail(statement: dict[str, Any]) -> None:
        statement["predicate"]["headrace_gates"]["results"][0]["value"] = "0.99"

    follow(target, fail)
    assert "does not say what its own values say" in target.verify()


def test_29_values_are_judged_again_by_the_verifiers_own_policy(target: Any, keys: Any) -> None:
    stricter = replace(
        keys.policy.rules, version=2, gates={"delays": (GateRule("log_loss", "<=", "0.40"),)}
    )
    policy = TrustPolicy.parse(
        (keys.folder / "trust.dsse.json").read_bytes(),
        sign_rules(stricter, keys.signers["policy"]),
        root=keys.policy.root,
    )
    with pytest.raises(Untrusted, match=r"weaker than 0\.40"):
        verify_release(target.folder, policy=policy)


def test_30_an_index_below_the_floor_is_refused(keys: Any) -> None:
    first, digest = index(keys, 1)
    second, newer = index(keys, 2, digest)
    floor = Floor("production").raise_to(keys.policy, number=2, digest=newer, now=NOON)
    assert judge(keys, second, floor).index.number == 2
    with pytest.raises(Untrusted, match="index 1 is below the floor, 2: an old index was offered"):
        judge(keys, first, floor)
    rollback, _ = index(keys, 3, newer)
    assert judge(keys, rollback, floor).index.release.version == 1


def test_31_a_fresh_server_is_protected_by_timestamp_and_minimum(keys: Any) -> None:
    old, digest = index(keys, 1)
    short = stamp(keys, old, hours=1)
    fresh = Floor("production")
    assert judge(keys, old, fresh, timestamp=short).fresh_until is not None
    with pytest.raises(Untrusted, match="timestamp expired"):
        judge(keys, old, fresh, timestamp=short, now=NOON + timedelta(hours=1))
    newer, _ = index(keys, 2, digest)
    with pytest.raises(Untrusted, match="the timestamp names index 1, not 2"):
        judge(keys, newer, fresh, timestamp=short)
    trust = replace(keys.policy.trust, version=2, minimum_index={"production": 2})
    policy = TrustPolicy.parse(
        sign_trust(trust, keys.signers["root"]),
        (keys.folder / "rules.dsse.json").read_bytes(),
        root=keys.policy.root,
    )
    with pytest.raises(Untrusted, match="below the floor, 2"):
        judge(keys, old, fresh, policy=policy)


def test_32_a_frozen_index_expires_and_says_what_to_do(keys: Any) -> None:
    signed, _ = index(keys, 1)
    frozen = stamp(keys, signed, hours=24)
    with pytest.raises(Untrusted, match="timestamp expired") as refused:
        judge(keys, signed, Floor("production"), timestamp=frozen, now=NOON + timedelta(days=2))
    assert "timestamp deployment" in refused.value.remedy


def test_33_a_fast_forwarded_index_is_recovered_from_by_the_root(keys: Any) -> None:
    """A thief signs a number that nothing could follow; a new epoch of the root forgets it."""
    stolen, digest = index(keys, 2**53 - 1, "cd" * 32)
    judge(keys, stolen, Floor("production"))
    floor = Floor("production").raise_to(keys.policy, number=2**53 - 1, digest=digest, now=NOON)
    honest, _ = index(keys, 2, "cd" * 32)
    with pytest.raises(Untrusted, match="below the floor"):
        judge(keys, honest, floor)
    trust = replace(keys.policy.trust, version=2, epoch=2)
    policy = TrustPolicy.parse(
        sign_trust(trust, keys.signers["root"]),
        (keys.folder / "rules.dsse.json").read_bytes(),
        root=keys.policy.root,
    )
    assert judge(keys, honest, floor, policy=policy).index.number == 2


def test_34_a_clock_set_back_is_refused_and_the_floor_stays(keys: Any, tmp_path: Path) -> None:
    signed, digest = index(keys, 1)
    path = tmp_path / "floor.json"
    floor = Floor("production").raise_to(keys.policy, number=1, digest=digest, now=NOON)
    floor.save(path)
    kept = Floor.load(path, environment="production")
    with pytest.raises(Untrusted, match="the clock says 2012-07-01"):
        judge(keys, signed, kept, now=NOON - timedelta(days=365))
    replace(kept, number=0, digest=None, seen_s=0).save(path)
    assert Floor.load(path, environment="production") == kept


def entry(number: int, reason: str = "monthly") -> bytes:
    return encode_entry(
        AuditEntry(
            number=number,
            kind="release.registered",
            at="2013-07-01T00:00:00Z",
            actor="ana",
            subject=f"delays/{number + 1}",
            transaction="0" * 64,
            reason=reason,
        )
    )


def peaks(lines: list[bytes]) -> Peaks:
    return Peaks.of(CompactRange().grow([hash_leaf(line) for line in lines]))


def test_35_a_truncated_or_forked_audit_log_fails_against_what_was_kept() -> None:
    lines = [entry(number) for number in range(7)]
    known = peaks(lines[:5])
    check_growth(known, peaks(lines), lines)
    Log(tuple(lines)).check_grown_from(5, known.tree.root)
    with pytest.raises(Untrusted, match="truncated: it had 5 entries and has 3"):
        check_growth(known, peaks(lines[:3]), lines[:3])
    forged = [*lines[:2], entry(2, "never happened"), *lines[3:]]
    for refuse in (
        lambda: check_growth(known, peaks(forged), forged),
        lambda: Log(tuple(forged)).check_grown_from(5, known.tree.root),
    ):
        with pytest.raises(Untrusted, match="rewritten or forked"):
            refuse()
