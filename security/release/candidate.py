"""A candidate: a sealed payload and its trainer's word for it, which nobody has released yet.

    provenance.dsse.json  trainer: what the model was built from
    recipients.json  payload/<name>.sealed
    gates.dsse.json       gatekeeper: what was measured; only once it was judged

Each role that takes a candidate further verifies it here first; nothing is opened before.
"""

from dataclasses import dataclass
from pathlib import Path

from security.errors import Untrusted
from security.files import list_names
from security.policy.gates import GateEvidence, find_shortfalls, parse_evidence
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import PAYLOAD, check_bundle
from security.release.provenance import Build, SealedBundle, parse_provenance
from security.release.stanzas import RECIPIENTS
from security.release.verify import GATES, PROVENANCE, read_statement

_FILES = {PROVENANCE, RECIPIENTS, PAYLOAD}


@dataclass(frozen=True)
class VerifiedCandidate:
    """What its trainer signed. `digest` is that of the provenance statement, never of a file."""

    build: Build
    sealed: SealedBundle
    digest: str
    key_id: str


def verify_candidate(
    folder: Path, *, policy: TrustPolicy, model: str, run_id: str, judged: bool = False
) -> VerifiedCandidate:
    """Files, signature, identity and payload of one training run's candidate.

    Raises: Untrusted at the first that does not hold.
    """
    found, expected = list_names(folder), _FILES | ({GATES} if judged else set())
    if expected - found == {GATES}:
        raise Untrusted(
            "the candidate has no gate evidence",
            remedy="run the gate deployment for it first",
            code="trust.gate_missing",
        )
    if odd := sorted(found ^ expected):
        raise Untrusted(
            f"the folder's files are not those of a candidate: {odd[0][:80]!r}",
            code="trust.unlisted_file",
        )
    signed = read_statement(folder / PROVENANCE, policy, "trainer")
    build, sealed = parse_provenance(signed.payload)
    if (build.model, build.run_id) != (model, run_id):
        raise Untrusted(
            f"the provenance is of run {build.run_id[:12]} of {build.model}, "
            f"not of run {run_id[:12]} of {model}",
            code="trust.wrong_release",
        )
    if sum(file.sealed_size for file in sealed.files) > policy.limits.sealed_bytes:
        raise Untrusted(
            f"the payload is larger than the policy's {policy.limits.sealed_bytes}",
            code="trust.too_large",
        )
    check_bundle(folder, sealed)
    return VerifiedCandidate(build, sealed, signed.digest, signed.key_id)


def verify_gated_candidate(
    folder: Path, *, policy: TrustPolicy, model: str, run_id: str
) -> tuple[VerifiedCandidate, GateEvidence]:
    """A candidate with the gatekeeper's evidence, every threshold judged again.

    Raises: Untrusted if anything does not hold, a gate among it.
    """
    candidate = verify_candidate(folder, policy=policy, model=model, run_id=run_id, judged=True)
    signed = read_statement(folder / GATES, policy, "gatekeeper")
    evidence, subjects = parse_evidence(signed.payload)
    if subjects != candidate.sealed.subjects or evidence.model != model:
        raise Untrusted("the gate evidence is about another model", code="trust.contradictory")
    if evidence.build_sha256 != candidate.build.digest:
        raise Untrusted(
            "the gate evidence is about a model of another origin",
            remedy="somebody changed the provenance after it was judged; train again",
            code="trust.contradictory",
        )
    if failures := find_shortfalls(policy.gates(model), evidence.results):
        raise Untrusted(f"a gate did not pass: {failures[0]}", code="trust.gate_failed")
    return candidate, evidence
