"""Registration: the releaser verifies a judged candidate and states the release itself."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from flows import audit
from flows.card import render_card
from flows.pipeline import Pipeline
from flows.signing import signer
from flows.trust import Trusted
from security.candidate import VerifiedCandidate, verify_judged
from security.errors import Untrusted
from security.gates import GateEvidence
from security.index import Index, moment_text
from security.pairs import RoleSigner
from security.policy import TrustPolicy
from security.release import sign_release
from storage import candidates, records, registry
from storage.lake import MAIN, Lake, Pin
from storage.records import Record
from storage.registry import ReleaseRef
from storage.runs import Provenance, Run

ACTOR = "serve"


def register_run(candidate: str) -> str:
    """The run id of the candidate's one registration."""
    return records.run_id(registry.STAGE, candidate)


def registration(lake: Lake, pipeline: str, candidate: str) -> Record | None:
    """The candidate's registration, with what it said about its release; None before it."""
    return registry.registered(lake, pipeline, register_run(candidate))


def why_not(registered: Record, running: Index | None, environment: str) -> str:
    """Why a registered candidate is not promoted by itself; empty if it is.

    It was measured against one champion: what another one would have made of it nobody knows.
    """
    branch, against = registered.details["branch"], registered.details["against"]
    current = running.release if running else None
    named = f"{current.model}/{current.version}" if current else "nothing"
    if branch != MAIN:
        return f"it was trained on {branch}"
    if named == registered.details["release"] or against == (current.digest if current else None):
        return ""
    return f"{environment} runs {named} now, which it was not measured against"


def register_candidate(
    lake: Lake, pipeline: Pipeline, candidate: str, trusted: Trusted, *, by: Provenance | None
) -> Record:
    """Register the next version, once per candidate; a second call returns the first's record.

    Raises: Untrusted if provenance, payload or evidence does not hold or a gate did not pass,
    NotFound without such a candidate; the registry is then as it was.
    """
    if found := registration(lake, pipeline.name, candidate):
        return found
    path, step = candidates.path_of(candidate), "registration"
    telling = audit.refusals(
        lake, pipeline.name, actor=ACTOR, subject=path, step=step, keys=trusted.keys, by=by
    )
    with TemporaryDirectory(prefix="headrace-") as private, telling:
        pin = registry.head(lake, pipeline.name)
        folder = registry.download(lake, pin, path, Path(private) / "release")
        made = _Registration.of(pipeline, candidate, folder, trusted)
        _, outcome = registry.register(
            lake,
            pipeline.name,
            run_id=register_run(candidate),
            sign=made.sign,
            details=made.details,
            inputs={"data": made.data},
            by=by,
            also=made.tell,
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
        verified, evidence = verify_judged(
            folder, policy=trusted.policy, model=pipeline.name, run_id=candidate
        )
        if verified.build.pipeline != pipeline.name or verified.build.data.keys() != {"data"}:
            raise Untrusted(f"the candidate is not one of {pipeline.name}, on one data commit")
        releaser = signer(trusted.keys, "releaser")
        return cls(pipeline, folder, verified, evidence, trusted.policy, releaser)

    @property
    def data(self) -> Pin:
        """What it was trained on."""
        pin = self.candidate.build.data["data"]
        return Pin(pin.repository, pin.commit)

    @property
    def details(self) -> dict[str, object]:
        """For the record: who comes later looks these up."""
        build = self.candidate.build
        return {
            "candidate": build.run_id,
            "reason": build.reason,
            "branch": build.branch,
            "against": self.evidence.against,
        }

    def sign(self, version: int) -> Path:
        """The folder with the release of this version in it; may be called again."""
        build, sealed = self.candidate.build, self.candidate.sealed
        sign_release(
            self.folder,
            version=version,
            card=render_card(self.pipeline, build, sealed, self.evidence),
            created=moment_text(datetime.now(UTC)),
            created_by=ACTOR,
            reason=build.reason or "-",
            policy=self.policy,
            signer=self.releaser,
            parent=self.evidence.against,
        )
        return self.folder

    def tell(self, run: Run, ref: ReleaseRef, folder: Path) -> None:
        """The registration in the audit log, in its own commit."""
        audit.append(run, *audit.registration(folder, ref, self.policy, ACTOR))
