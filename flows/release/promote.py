"""Promotion: a release that verifies in full becomes what an environment should run."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows import audit
from flows.context import Context
from flows.keys.published_policy import publish_policy
from flows.release.approval import propose
from flows.release.publish_index import (
    NextIndex,
    make_request_id,
    names_release,
    publish_index,
    verify_registered,
)
from flows.trust.newest_index import read_standing_index, refuse_stale, signatures_hold
from security.release.index import Index, VerifiedIndex
from security.release.statement import ModelRelease
from storage import registry
from storage.errors import Refused
from storage.lake import MAIN
from storage.registry import ReleaseRef


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


def promote(context: Context, release: ReleaseRef, *, environment: str, reason: str) -> Promotion:
    """Verify the release, then sign and publish the next index, once per release and reason.

    The same release for the same reason is one promotion: a late repetition does not undo a
    rollback that came in between; another reason promotes it anew. Where the policy demands more
    than one releaser, this one signs a proposal.
    Raises: Untrusted if any step of verification fails, or the standing index is not known to be
    the newest, or the audit log was tampered with; Refused if another index came first.
    """
    # Not told to the log: one that was tampered with is no place for it.
    lake, trusted = context.lake, context.trusted
    audit.check_grown(lake, context.pin_releases(), trusted.floors)
    with audit.record_refusals(context, subject=release.path, step="promotion"):
        publish_policy(context)
        pin = context.pin_releases()
        current = read_standing_index(lake, pin, trusted, environment)
        valid = current is not None and signatures_hold(current, lake, pin, trusted)
        needed = trusted.policy.index_threshold(environment)
        view = trusted.policy if needed == 1 else trusted.policy.for_cosigner()
        verified = verify_registered(lake, pin, release, view)
        if current and valid:
            if names_release(current.index, verified):
                number = current.index.number
                return Promotion(environment, release, number, number, True)
            refuse_stale(lake, pin, trusted, current)
    following = NextIndex(
        environment=environment,
        release=verified,
        kind="promotion",
        actor=context.actor,
        reason=reason,
        after=current,
        request_id=_make_request(release, reason, current, valid=valid),
    )
    if needed > 1:
        proposal = propose(context, following)
        number = current.index.number if current else 0
        return Promotion(environment, release, number, number, False, proposal)
    return _publish(context, release, following)


def explain_no_promotion(release: ModelRelease, past: Sequence[Index], environment: str) -> str:
    """Why a registered candidate is not promoted by itself; empty if it is.

    `past` are the environment's indexes, oldest first. It was measured against one champion: what
    another one would have made of it nobody knows. What gave way once comes back by a person.
    """
    running = past[-1].release if past else None
    named = f"{running.model}/{running.version}" if running else "nothing"
    if release.build.branch != MAIN:
        return f"it was trained on {release.build.branch}"
    if running and running.digest == release.digest:
        return ""
    if release.digest in {index.release.digest for index in past}:
        return f"{environment} ran it before and left it for {named}"
    if release.parent == (running.digest if running else None):
        return ""
    return f"{environment} runs {named} now, which it was not measured against"


def _make_request(
    release: ReleaseRef, reason: str, current: VerifiedIndex | None, *, valid: bool
) -> str:
    after = current.index.number if current else 0
    request = make_request_id("promotion", release, reason, after=after)
    if current and not valid:
        # Its signer was revoked, or more are demanded now: what was done then is to be done again.
        return f"{request}, after index {after} lost its signature"
    return request


def _publish(context: Context, release: ReleaseRef, following: NextIndex) -> Promotion:
    lake, environment = context.lake, following.environment
    try:
        number, outcome = publish_index(context, following)
    except Refused:
        # Two starts of one promotion, under two reasons: the winner's index says the same.
        newest = context.trusted.newest_index(lake, context.pin_releases(), environment)
        if newest is None or not names_release(newest.index, following.release):
            raise
        number = newest.index.number
        return Promotion(environment, release, number, number, True)
    latest = max(registry.index_numbers(lake, outcome.pin, environment))
    return Promotion(environment, release, number, latest, outcome.already)
