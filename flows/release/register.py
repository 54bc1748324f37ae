"""Registration: the releaser verifies a judged candidate and states the release itself."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from flows import audit
from flows.context import Context
from flows.pipeline import Pipeline
from flows.pipeline.card import render_card
from flows.release.publish_index import verify_registered
from flows.trust.installation import Trusted
from flows.trust.key_access import read_signer
from security.errors import Untrusted
from security.keys.pairs import RoleSigner
from security.policy.gates import GateEvidence
from security.policy.trust_policy import TrustPolicy
from security.release.candidate import VerifiedCandidate, verify_gated_candidate
from security.release.index import format_moment
from security.release.signing import ReleaseTerms, VerifiedRelease, sign_release
from storage import registry
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, layout
from storage.registry.details import RegisterCandidateDetails, RegisterDetails
from storage.runs import Run
from storage.runs.records import Record

ACTOR = "serve"


def find_registration(lake: Lake, pipeline: str, candidate: str) -> Record | None:
    """The candidate's registration, with what it said about its release; None before it."""
    return registry.find_registration(lake, pipeline, layout.register_run(candidate))


def read_release(context: Context, candidate: str, registered: Record) -> VerifiedRelease:
    """The release that a record says was made of the candidate, verified in full.

    Records are not signed: this one only says where to look.
    Raises: Untrusted if the release does not verify, or was made of another candidate.
    """
    ref = ReleaseRef.parse(RegisterDetails.of(registered).release)
    policy = context.trusted.policy.for_cosigner()
    verified = verify_registered(context.lake, context.pin_releases(), ref, policy)
    if verified.release.build.run_id != candidate:
        raise Untrusted(
            f"the record of candidate {candidate[:12]} names {ref}, which was not made of it",
            remedy="the commits of the releases repository show who wrote that record",
        )
    return verified


def register_candidate(context: Context, candidate: str) -> Record:
    """Register the next version, once per candidate; a second call returns the first's record.

    Raises: Untrusted if provenance, payload or evidence does not hold or a gate did not pass,
    NotFound without such a candidate; the registry is then as it was.
    """
    lake, name = context.lake, context.pipeline.name
    if found := find_registration(lake, name, candidate):
        return found
    path = layout.candidate_folder(candidate)
    telling = audit.record_refusals(context, actor=ACTOR, subject=path, step="registration")
    with TemporaryDirectory(prefix="headrace-") as private, telling:
        folder = registry.download(lake, context.pin_releases(), path, Path(private) / "release")
        made = _Registration.of(context.pipeline, candidate, folder, context.trusted)
        _, outcome = registry.register(
            lake,
            name,
            registry.ReleaseDraft(made.sign, made.describe, made.tell),
            run_id=layout.register_run(candidate),
            inputs={"data": made.data},
            by=context.origin,
        )
    return outcome.record


@dataclass(frozen=True)
class _Registration:
    """A verified candidate in a private folder, about to be stated as a release."""

    pipeline: Pipeline
    folder: Path
    candidate: VerifiedCandidate
    evidence: GateEvidence
    policy: TrustPolicy
    releaser: RoleSigner

    @classmethod
    def of(
        cls, pipeline: Pipeline, candidate: str, folder: Path, trusted: Trusted
    ) -> "_Registration":
        """Raises: Untrusted if anything does not hold, BadKey without the releaser's role."""
        verified, evidence = verify_gated_candidate(
            folder, policy=trusted.policy, model=pipeline.name, run_id=candidate
        )
        if verified.build.pipeline != pipeline.name or verified.build.data.keys() != {"data"}:
            raise Untrusted(f"the candidate is not one of {pipeline.name}, on one data commit")
        releaser = read_signer(trusted.keys, "releaser")
        return cls(pipeline, folder, verified, evidence, trusted.policy, releaser)

    @property
    def data(self) -> Pin:
        """What it was trained on."""
        pin = self.candidate.build.data["data"]
        return Pin(pin.repository, pin.commit)

    def describe(self, ref: ReleaseRef) -> RegisterCandidateDetails:
        """What the record says: who comes later looks these up."""
        build = self.candidate.build
        return RegisterCandidateDetails(
            release=str(ref),
            candidate=build.run_id,
            reason=build.reason,
            branch=build.branch,
            against=self.evidence.against,
        )

    def sign(self, version: int) -> Path:
        """The folder with the release of this version in it; may be called again."""
        build, sealed = self.candidate.build, self.candidate.sealed
        sign_release(
            self.folder,
            ReleaseTerms(
                version=version,
                card=render_card(self.pipeline, build, sealed, self.evidence),
                created=format_moment(datetime.now(UTC)),
                created_by=ACTOR,
                reason=build.reason or "-",
                parent=self.evidence.against,
            ),
            policy=self.policy,
            signer=self.releaser,
        )
        return self.folder

    def tell(self, run: Run, ref: ReleaseRef, folder: Path) -> None:
        """The registration in the audit log, in its own commit."""
        audit.append_events(run, *audit.registration_events(folder, ref, self.policy, ACTOR))
