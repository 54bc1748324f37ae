"""Serve: a candidate that passed becomes a release, and the release what the environment runs.

It holds the releaser's key and no other. The prediction service reconciles to the signed index
by itself; nothing is pushed to it.
"""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.context import Stage, open_stage
from flows.errors import Misconfigured
from flows.events import PUBLISHED, REGISTERED, announce
from flows.release.promote import promote
from flows.release.register import register_candidate, released, why_not
from flows.trust.installation import Trusted
from flows.trust.newest_index import history
from security.release.index import Index
from storage.registry import ReleaseRef, head
from storage.runs.records import Record


@task(cache_policy=NO_CACHE, persist_result=False)
def verify_and_register(pipeline: str | None, candidate: str) -> Record:
    """Provenance, payload and evidence verified again; the next version signed and committed."""
    stage = open_stage(pipeline)
    trusted = Trusted.load(stage.settings.keys)
    return register_candidate(stage.lake, stage.pipeline, candidate, trusted, by=stage.by)


@flow(name="serve", persist_result=False)
def serve(
    release: str | None = None,
    reason: str = "promoted",
    environment: str | None = None,
    pipeline: str | None = None,
    actor: str = "serve",
    candidate: str | None = None,
) -> State[Any]:
    """Make `release`, or the release of `candidate`, what the environment runs.

    A candidate is registered first, once. It is promoted only if it was trained on main and the
    champion it was measured against still runs; a release that is named is promoted anyway.
    A second start is a no-op.
    Raises: Untrusted if any verification step fails; the environment is then as it was.
    """
    stage = open_stage(pipeline)
    environment = environment or stage.settings.environment
    if (release is None) == (candidate is None):
        raise Misconfigured("Name a release or a candidate.", remedy="One of the two, not both.")
    if candidate is not None:
        registered = verify_and_register(pipeline, candidate)
        trusted = Trusted.load(stage.settings.keys)
        found = released(stage.lake, stage.pipeline, candidate, registered, trusted).release
        release, reason = f"{found.model}/{found.version}", found.reason
        _link(stage, registered)
        if declined := why_not(found, _past(stage, environment, trusted), environment):
            return Completed(message=f"registered {release}; not promoted: {declined}")
    return _promote(stage, ReleaseRef.parse(str(release)), environment, reason, actor)


def _past(stage: Stage, environment: str, trusted: Trusted) -> list[Index]:
    pin = head(stage.lake, stage.pipeline.name)
    current = trusted.newest_index(stage.lake, pin, environment)
    return history(stage.lake, pin, current) if current else []


def _promote(
    stage: Stage, ref: ReleaseRef, environment: str, reason: str, actor: str
) -> State[Any]:
    promoted = promote(
        stage.lake,
        stage.pipeline,
        ref,
        environment=environment,
        keys_folder=stage.settings.keys,
        reason=reason,
        actor=actor,
        by=stage.by,
    )
    message = promoted.told
    create_markdown_artifact(
        key="index",
        markdown=f"{message}\n\nReason: {reason}\n",
        description="What the environment runs from now on.",
    )
    if promoted.proposal is not None:
        return Completed(message=message)
    announce(
        PUBLISHED,
        pipeline=stage.pipeline.name,
        payload={"environment": environment, "index": str(promoted.index), "release": str(ref)},
    )
    return Completed(message=message)


def _link(stage: Stage, registered: Record) -> None:
    release, candidate = registered.details["release"], registered.details["candidate"]
    create_markdown_artifact(
        key="links",
        markdown=(
            f"| what | which |\n|---|---|\n| release | `{release}` |\n"
            f"| candidate | `candidates/{candidate}` |\n"
            f"| data commit | `{registered.inputs['data']}` |\n"
            f"| record | `{registered.path}` in `{stage.pipeline.releases}` |\n"
        ),
        description="Data commit, candidate and release of this run.",
    )
    announce(
        REGISTERED,
        pipeline=stage.pipeline.name,
        payload={"release": str(release), "candidate": str(candidate)},
    )
