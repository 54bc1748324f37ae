"""Promotion: a release that verifies in full becomes what an environment should run."""

from dataclasses import dataclass
from pathlib import Path

from flows.pipeline import Pipeline
from flows.serve.indexes import Next, names, publish, verified_release
from flows.serve.policy import publish_policy
from flows.trust import Trusted
from storage import registry
from storage.errors import Refused
from storage.lake import Lake
from storage.registry import ReleaseRef
from storage.runs import Provenance


@dataclass(frozen=True, slots=True)
class Promotion:
    """The index that names the release. `already`: it was written before this call.

    `newest` is larger than `index` if the environment has moved on since.
    """

    environment: str
    release: ReleaseRef
    index: int
    newest: int
    already: bool


def promote(
    lake: Lake,
    pipeline: Pipeline,
    release: ReleaseRef,
    *,
    environment: str,
    keys_folder: Path,
    reason: str,
    actor: str,
    by: Provenance | None = None,
) -> Promotion:
    """Verify the release, then sign and publish the next index, once per release and reason.

    The same release for the same reason is one promotion: a late repetition does not undo a
    rollback that came in between; another reason promotes it anew.
    Raises: Untrusted if any step of verification fails, Refused if another index came first.
    """
    publish_policy(lake, pipeline, keys_folder, by=by)
    trusted = Trusted.load(keys_folder)
    pin = registry.head(lake, pipeline.name)
    verified = verified_release(lake, pin, release, trusted.policy)
    current = trusted.newest_index(lake, pin, environment)
    if current and names(current.index, verified):
        return Promotion(environment, release, current.index.number, current.index.number, True)
    following = Next(
        environment=environment,
        release=verified,
        kind="promotion",
        actor=actor,
        reason=reason,
        after=current,
        request_id=f"promote {release}: {reason}",
    )
    try:
        number, outcome = publish(lake, pipeline, trusted, following, by)
    except Refused:
        # Two starts of one promotion, under two reasons: the winner's index says the same.
        newest = trusted.newest_index(lake, registry.head(lake, pipeline.name), environment)
        if newest is None or not names(newest.index, verified):
            raise
        return Promotion(environment, release, newest.index.number, newest.index.number, True)
    standing = max(registry.index_numbers(lake, outcome.pin, environment))
    return Promotion(environment, release, number, standing, outcome.already)
