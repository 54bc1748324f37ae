"""Promotion: a release that verifies in full becomes what an environment should run."""

from dataclasses import dataclass
from pathlib import Path

from flows import audit
from flows.keys.published_policy import publish_policy
from flows.pipeline import Pipeline
from flows.release.approval import propose
from flows.release.indexes import Next, names, publish, request_id, verified_release
from flows.trust.installation import Trusted
from flows.trust.newest_index import holds, refuse_stale, standing
from security.release.index import VerifiedIndex
from security.release.signing import VerifiedRelease
from storage import registry
from storage.errors import Refused
from storage.lake import Lake
from storage.registry import ReleaseRef
from storage.runs import Provenance


@dataclass(frozen=True, slots=True)
class Promotion:
    """The index that names the release. `already`: it was written before this call.

    `newest` is larger than `index` if the environment has moved on since. With a `proposal` more
    releasers have to sign; both numbers are then those of the index that stands, 0 if there is
    none.
    """

    environment: str
    release: ReleaseRef
    index: int
    newest: int
    already: bool
    proposal: int | None = None

    @property
    def told(self) -> str:
        """What a person is told of it."""
        if self.proposal is None:
            return f"{self.environment} index {self.index} names {self.release}"
        return (
            f"proposal {self.proposal} of {self.environment} names {self.release}; "
            f"another releaser approves it with `headrace model approve {self.proposal}`"
        )


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
    rollback that came in between; another reason promotes it anew. Where the policy demands more
    than one releaser, this one signs a proposal.
    Raises: Untrusted if any step of verification fails, or the standing index is not known to be
    the newest, or the audit log was tampered with; Refused if another index came first.
    """
    # Not told to the log: one that was tampered with is no place for it.
    audit.check_grown(lake, registry.head(lake, pipeline.name), Trusted.load(keys_folder).floors)
    subject = release.path
    with audit.refusals(
        lake, pipeline.name, actor=actor, subject=subject, step="promotion", keys=keys_folder, by=by
    ):
        publish_policy(lake, pipeline, keys_folder, actor=actor, by=by)
        trusted = Trusted.load(keys_folder)
        pin = registry.head(lake, pipeline.name)
        current = standing(lake, pin, trusted, environment)
        valid = current is not None and holds(current, lake, pin, trusted)
        needed = trusted.policy.index_threshold(environment)
        view = trusted.policy if needed == 1 else trusted.policy.for_cosigner()
        verified = verified_release(lake, pin, release, view)
        if current and valid:
            if names(current.index, verified):
                number = current.index.number
                return Promotion(environment, release, number, number, True)
            refuse_stale(lake, pin, trusted, current)
    following = _next(environment, verified, release, actor, reason, current, valid=valid)
    if needed > 1:
        proposal = propose(lake, pipeline, trusted, following, by)
        number = current.index.number if current else 0
        return Promotion(environment, release, number, number, False, proposal)
    return _publish(lake, pipeline, trusted, release, following, by)


def _next(
    environment: str,
    verified: VerifiedRelease,
    release: ReleaseRef,
    actor: str,
    reason: str,
    current: VerifiedIndex | None,
    *,
    valid: bool,
) -> Next:
    after = current.index.number if current else 0
    request = request_id("promotion", release, reason, after=after)
    if current and not valid:
        # Its signer was revoked, or more are demanded now: what was done then is to be done again.
        request = f"{request}, after index {after} lost its signature"
    return Next(environment, verified, "promotion", actor, reason, current, request)


def _publish(
    lake: Lake,
    pipeline: Pipeline,
    trusted: Trusted,
    release: ReleaseRef,
    following: Next,
    by: Provenance | None,
) -> Promotion:
    environment = following.environment
    try:
        number, outcome = publish(lake, pipeline, trusted, following, by)
    except Refused:
        # Two starts of one promotion, under two reasons: the winner's index says the same.
        newest = trusted.newest_index(lake, registry.head(lake, pipeline.name), environment)
        if newest is None or not names(newest.index, following.release):
            raise
        number = newest.index.number
        return Promotion(environment, release, number, number, True)
    latest = max(registry.index_numbers(lake, outcome.pin, environment))
    return Promotion(environment, release, number, latest, outcome.already)
