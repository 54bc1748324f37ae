"""Registration: the releaser verifies a judged candidate and states the release itself."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from flows import audit
from flows.card import render_card
from flows.pipeline import Pipeline
from flows.signing import signer
from flows.trust import Trusted
from security.candidate import verify_judged
from security.errors import Untrusted
from security.index import Index, moment_text
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
    policy, pin = trusted.policy, registry.head(lake, pipeline.name)
    path, step = candidates.path_of(candidate), "registration"
    telling = audit.refusals(
        lake, pipeline.name, actor=ACTOR, subject=path, step=step, keys=trusted.keys, by=by
    )
    with TemporaryDirectory(prefix="headrace-") as private, telling:
        folder = registry.download(lake, pin, path, Path(private) / "release")
        verified, evidence = verify_judged(
            folder, policy=policy, model=pipeline.name, run_id=candidate
        )
        build, releaser = verified.build, signer(trusted.keys, "releaser")
        if build.pipeline != pipeline.name or build.data.keys() != {"data"}:
            raise Untrusted(f"the candidate is not one of {pipeline.name}, on one data commit")

        def sign(version: int) -> Path:
            sign_release(
                folder,
                version=version,
                card=render_card(pipeline, build, verified.sealed, evidence),
                created=moment_text(datetime.now(UTC)),
                created_by=ACTOR,
                reason=build.reason or "-",
                policy=policy,
                signer=releaser,
                parent=evidence.against,
            )
            return folder

        def tell(run: Run, ref: ReleaseRef, signed: Path) -> None:
            audit.append(run, *audit.registration(signed, ref, policy, ACTOR))

        data = build.data["data"]
        _, outcome = registry.register(
            lake,
            pipeline.name,
            run_id=register_run(candidate),
            sign=sign,
            details={
                "candidate": candidate,
                "reason": build.reason,
                "branch": build.branch,
                "against": evidence.against,
            },
            inputs={"data": Pin(data.repository, data.commit)},
            by=by,
            also=tell,
        )
    return outcome.record
