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

from flows.context import Context, open_run
from flows.errors import Misconfigured
from flows.events import PUBLISHED, REGISTERED, announce
from flows.release.promote import explain_no_promotion, promote
from flows.release.register import read_release, register_candidate
from flows.trust.newest_index import read_history
from security.release.index import Index
from storage.registry import ReleaseRef, layout
from storage.registry.details import RegisterCandidateDetails
from storage.runs.records import Record


@task(cache_policy=NO_CACHE, persist_result=False)
def verify_and_register(pipeline: str | None, candidate: str) -> Record:
    """Provenance, payload and evidence verified again; the next version signed and committed."""
    return register_candidate(open_run(pipeline), candidate)


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
    context = open_run(pipeline).acting(actor)
    environment = environment or context.settings.environment
    if (release is None) == (candidate is None):
        raise Misconfigured("Name a release or a candidate.", remedy="One of the two, not both.")
    if candidate is not None:
        registered = verify_and_register(pipeline, candidate)
        found = read_release(context, candidate, registered).release
        release, reason = f"{found.model}/{found.version}", found.reason
        _show_links(context, registered)
        if declined := explain_no_promotion(found, _read_past(context, environment), environment):
            return Completed(message=f"registered {release}; not promoted: {declined}")
    return _promote(context, ReleaseRef.parse(str(release)), environment, reason)


def _read_past(context: Context, environment: str) -> list[Index]:
    pin = context.pin_releases()
    current = context.trusted.newest_index(context.lake, pin, environment)
    return read_history(context.lake, pin, current) if current else []


def _promote(context: Context, ref: ReleaseRef, environment: str, reason: str) -> State[Any]:
    promoted = promote(context, ref, environment=environment, reason=reason)
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
        pipeline=context.pipeline.name,
        payload={"environment": environment, "index": str(promoted.index), "release": str(ref)},
    )
    return Completed(message=message)


def _show_links(context: Context, registered: Record) -> None:
    said = RegisterCandidateDetails.of(registered)
    release, candidate = said.release, said.candidate
    create_markdown_artifact(
        key="links",
        markdown=(
            f"| what | which |\n|---|---|\n| release | `{release}` |\n"
            f"| candidate | `{layout.candidate_folder(candidate)}` |\n"
            f"| data commit | `{registered.inputs['data']}` |\n"
            f"| record | `{registered.path}` in `{context.pipeline.releases}` |\n"
        ),
        description="Data commit, candidate and release of this run.",
    )
    announce(
        REGISTERED,
        pipeline=context.pipeline.name,
        payload={"release": release, "candidate": candidate},
    )
