"""Signing a release folder, each role its own part.

No role signs bytes handed to it: the trainer states what it built, the gatekeeper what it
measured, and the releaser binds both after verifying them as any reader of the release would.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from security.errors import Untrusted
from security.files import open_regular, replace_file
from security.formats.envelope import INTOTO, sign
from security.keys.pairs import RoleSigner
from security.policy.gates import GateEvidence, GateResult, format_decimal, parse_evidence
from security.policy.trust_policy import TrustPolicy
from security.release.provenance import (
    Build,
    SealedBundle,
    make_provenance_statement,
    parse_provenance,
)
from security.release.statement import ModelRelease, parse_release
from security.release.verify import (
    CARD,
    GATES,
    PROVENANCE,
    RELEASE,
    VerifiedRelease,
    read_statement,
    verify_bindings,
    verify_release,
)

__all__ = ["VerifiedRelease", "sign_gates", "sign_provenance", "sign_release", "verify_release"]


def sign_provenance(
    folder: Path, build: Build, sealed: SealedBundle, *, signer: RoleSigner
) -> None:
    """The trainer states what it built the sealed files from."""
    payload = make_provenance_statement(build, sealed).to_bytes()
    replace_file(folder / PROVENANCE, sign(payload, INTOTO, signer.require("trainer")))


@dataclass(frozen=True)
class Measurement:
    """What a gatekeeper measured of one model: its plain `files` and the `values`, by metric.

    `against` is the digest of the champion it was compared with, `rows` are counts of what it was
    judged on, `build` is what the gatekeeper verified that the files were made from.
    """

    model: str
    files: Mapping[str, Path]
    values: Mapping[str, float | str]
    against: str | None = None
    rows: Mapping[str, int] | None = None
    build: Build | None = None


@dataclass(frozen=True)
class ReleaseTerms:
    """What a releaser states by itself: number, card, and who released it when and why.

    `created` is UTC, `2013-07-01T00:00:00Z`; `parent` is the digest of the release it replaces.
    """

    version: int
    card: str
    created: str
    created_by: str
    reason: str
    parent: str | None = None


def sign_gates(
    folder: Path, measured: Measurement, *, policy: TrustPolicy, signer: RoleSigner
) -> GateEvidence:
    """The gatekeeper states what it measured on plain files, whose digests it takes itself.

    Thresholds are the policy's own. A failed gate is signed as failed; no release comes of it.
    Raises: Untrusted if a metric that the policy demands was not measured.
    """
    subjects = {name: _hash_file(path) for name, path in measured.files.items()}
    results = tuple(
        GateResult(rule.metric, rule.comparator, rule.bound, _find_value(measured, rule.metric))
        for rule in policy.gates(measured.model)
    )
    evidence = GateEvidence(
        measured.model,
        policy.digests.rules,
        results,
        measured.against,
        measured.rows,
        measured.build.digest if measured.build else None,
    )
    payload = evidence.to_statement(subjects).to_bytes()
    replace_file(folder / GATES, sign(payload, INTOTO, signer.require("gatekeeper")))
    return evidence


def sign_release(
    folder: Path, terms: ReleaseTerms, *, policy: TrustPolicy, signer: RoleSigner
) -> ModelRelease:
    """The releaser binds provenance, gates, card and payload, each verified first.

    May be repeated with another version.
    Raises: Untrusted, having written nothing, if any step of verification would fail.
    """
    written = terms.card.encode("utf-8")
    provenance = read_statement(folder / PROVENANCE, policy, "trainer")
    gates = read_statement(folder / GATES, policy, "gatekeeper")
    build, sealed = parse_provenance(provenance.payload)
    evidence, _ = parse_evidence(gates.payload)
    release = ModelRelease(
        model=build.model,
        version=terms.version,
        build=build,
        bundle=sealed,
        gates=evidence.results,
        policy_sha256=evidence.policy_sha256,
        provenance_sha256=provenance.digest,
        evidence_sha256=gates.digest,
        card_sha256=hashlib.sha256(written).hexdigest(),
        created=terms.created,
        created_by=terms.created_by,
        reason=terms.reason,
        parent=terms.parent,
    )
    payload = release.to_statement().to_bytes()
    for _ in verify_bindings(folder, parse_release(payload), card=written, policy=policy):
        pass
    signed = sign(payload, INTOTO, signer.require("releaser"))
    replace_file(folder / CARD, written)
    replace_file(folder / RELEASE, signed)
    return release


def _hash_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_value(measured: Measurement, metric: str) -> str:
    if metric not in measured.values:
        raise Untrusted(
            f"the policy demands {metric}, which was not measured", code="trust.gate_missing"
        )
    return format_decimal(measured.values[metric])
