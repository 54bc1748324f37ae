"""Promotion by several releasers: one proposes, others sign the same bytes, the last publishes.

Each verifies the release for itself before it signs; a signature handed over is not believed.
"""

from dataclasses import dataclass, replace
from typing import Literal

from flows import audit
from flows.context import Context
from flows.keys.published_policy import publish_policy
from flows.release.proposals import (
    FiledProposal,
    Proposal,
    cosign_release,
    list_numbers,
    list_proposals,
    open_proposal,
    verify_signed_so_far,
)
from flows.release.publish_index import (
    NextIndex,
    make_request_id,
    name_release,
    refuse_second,
    verify_registered,
    write_index,
)
from flows.trust import key_access
from flows.trust.installation import Trusted
from flows.trust.newest_index import read_standing_index
from security.errors import Untrusted
from security.formats.envelope import add_signature
from security.formats.strict_json import from_bytes, to_bytes
from security.keys.pairs import RoleSigner
from security.policy.floor import CLOCK_SLACK
from security.release.index import INDEX_TYPE, Index, read_moment, sign_index
from storage import registry
from storage.errors import Refused
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, layout
from storage.registry.details import ProposeDetails
from storage.runs import Run


@dataclass(frozen=True, slots=True)
class Approval:
    """What an approval led to: `index` if it was the last one needed, else how many `missing`."""

    proposal: Proposal
    index: int | None
    missing: int


def propose(context: Context, following: NextIndex) -> int:
    """Sign the next index as the first of several releasers; the number of the proposal.

    The same request on the same predecessor is one proposal, as long as it is open.
    Raises: Refused if another index came first.
    """
    lake, trusted, environment = context.lake, context.trusted, following.environment
    known = list_proposals(lake, context.pin_releases(), trusted, environment)
    for one in known:
        if one.state == "open" and _is_asked_by(one, following):
            return one.number
    releaser = key_access.read_signer(trusted.keys, "releaser")
    envelope = sign_index(following.index(), releaser)
    last = known[-1].number if known else 0

    def body(run: Run) -> None:
        newest = max(registry.index_numbers(lake, run.base, environment), default=0)
        before = registry.index(lake, run.base, environment, newest) if newest else None
        refuse_second(following, newest + 1, before, trusted.policy)
        number = max(list_numbers(lake, run.base, environment), default=0) + 1
        run.put(
            layout.proposal_path(environment, number),
            to_bytes(FiledProposal(number, following.kind, envelope.decode())),
        )
        _cosign_release(run, trusted, following.index(), releaser)
        audit.append_events(
            run, _make_event("proposal.made", number, following.actor, envelope, trusted)
        )
        run.describe(
            ProposeDetails(environment=environment, proposal=number, reason=following.reason)
        )

    run_id = layout.propose_run(environment, following.request_id, last)
    outcome = context.commit_release(layout.PROPOSE, run_id, body)
    return ProposeDetails.of(outcome.record).proposal


def approve(
    context: Context, *, environment: str, number: int, shown: Proposal | None = None
) -> Approval:
    """Verify what the first releaser verified, sign the same index, publish if that is enough.

    `shown` is what this releaser was shown and said yes to: no other is signed in its place.
    Raises: Refused for a proposal that is not open or that this key signed, Untrusted if the
    release or the policy does not hold, or it asks for more than a release, NotFound.
    """
    # What was shown was read before this releaser answered.
    context = context.read_policy_again()
    publish_policy(context)
    pin = context.pin_releases()
    audit.check_grown(context.lake, pin, context.trusted.floors)
    with audit.record_refusals(
        context, subject=layout.proposal_path(environment, number), step="approval"
    ):
        proposal = open_proposal(context.lake, pin, context.trusted, environment, number)
        if shown is not None and (proposal.index, proposal.kind) != (shown.index, shown.kind):
            raise Refused(
                f"Proposal {number} of {environment} is not the one that was shown any more.",
                remedy="Repeat the command, and read it again.",
            )
        return _approve(context, pin, proposal)


def _approve(context: Context, pin: Pin, proposal: Proposal) -> Approval:
    lake, trusted, number = context.lake, context.trusted, proposal.number
    releaser = key_access.read_signer(trusted.keys, "releaser")
    if releaser.public.key_id in proposal.key_ids:
        raise Refused(
            f"Proposal {number} bears this releaser's signature already, and one counts once.",
            remedy="Another releaser approves it, with a key pair of their own.",
        )
    following = _require_same_release(lake, pin, trusted, proposal)
    envelope = add_signature(proposal.envelope, INDEX_TYPE, releaser)
    signed = verify_signed_so_far(envelope, trusted)
    if releaser.public.key_id not in signed.key_ids:
        raise Untrusted(
            "this releaser's key is not enrolled in the policy",
            remedy="have the root enrol it: a signature of a stranger counts for nothing",
        )
    told = _make_event("proposal.approved", number, context.actor, envelope, trusted)
    if (missing := proposal.needed - len(signed.key_ids)) > 0:
        _file_signature(context, proposal, envelope, releaser, told)
        return Approval(proposal, None, missing)
    release = ReleaseRef(proposal.index.release.model, proposal.index.release.version)
    index, _ = write_index(
        context,
        following,
        envelope,
        beside=cosign_release(lake, pin, release, trusted.policy, releaser, complete=True),
        events=(told,),
    )
    return Approval(proposal, index, 0)


def _require_same_release(lake: Lake, pin: Pin, trusted: Trusted, proposal: Proposal) -> NextIndex:
    """What the proposal asks for, from this releaser's own verification of the release."""
    index = proposal.index
    ref = ReleaseRef(index.release.model, index.release.version)
    release = verify_registered(lake, pin, ref, trusted.policy.for_cosigner())
    if release.digest != index.release.digest:
        raise Untrusted(f"the proposal names another release than {ref}")
    following = NextIndex(
        environment=index.environment,
        release=release,
        kind=proposal.kind,
        actor=index.actor,
        reason=index.reason,
        after=read_standing_index(lake, pin, trusted, index.environment),
        request_id=make_request_id(proposal.kind, ref, index.reason, after=index.number - 1),
    )
    _require_own_words(index, following.index())
    return following


def _require_own_words(proposed: Index, own: Index) -> None:
    """Refuse an index that says anything but what this releaser would have written.

    Raises: Untrusted, for a canary or a shadow that nobody was shown, or a time to come.
    """
    if replace(own, created=proposed.created) != proposed:
        raise Untrusted(
            "the proposed index says more than which release is to run",
            remedy="propose the release anew with `headrace model promote`",
        )
    if read_moment(proposed.created) > read_moment(own.created) + CLOCK_SLACK:
        raise Untrusted(
            f"the proposal says that it was made at {proposed.created}, which is to come",
            remedy="compare the clocks of the two releasers' machines, and propose it anew",
        )


def _file_signature(
    context: Context,
    proposal: Proposal,
    envelope: bytes,
    releaser: RoleSigner,
    told: audit.Event,
) -> None:
    """File the proposal with one signature more; two who add at once collide on the file."""
    environment, number = proposal.index.environment, proposal.number
    path = layout.proposal_path(environment, number)

    def body(run: Run) -> None:
        standing_file = from_bytes(
            FiledProposal, context.lake.fs.get(run.repository, run.base.commit, path)
        )
        if standing_file.envelope.encode() != proposal.envelope:
            raise Refused(
                f"Proposal {proposal.number} was signed by somebody else meanwhile.",
                remedy="Repeat the command.",
            )
        run.replace(
            path, to_bytes(FiledProposal(proposal.number, proposal.kind, envelope.decode()))
        )
        _cosign_release(run, context.trusted, proposal.index, releaser)
        audit.append_events(run, told)

    signatures = len(proposal.key_ids)
    run_id = layout.approve_run(environment, number, releaser.public.key_id, signatures)
    context.commit_release(layout.PROPOSE, run_id, body)


def _cosign_release(run: Run, trusted: Trusted, index: Index, releaser: RoleSigner) -> None:
    ref = ReleaseRef(index.release.model, index.release.version)
    files = cosign_release(run.lake, run.base, ref, trusted.policy, releaser)
    for path, data in files.items():
        run.replace(path, data)


def _make_event(
    kind: Literal["proposal.made", "proposal.approved"],
    number: int,
    actor: str,
    envelope: bytes,
    trusted: Trusted,
) -> audit.Event:
    signed = verify_signed_so_far(envelope, trusted)
    index = from_bytes(Index, signed.payload)
    return audit.signed_event(
        signed,
        actor=actor,
        subject=layout.proposal_subject(index.environment, number),
        role="releaser",
        kind=kind,
        reason=index.reason,
        detail={"release": name_release(index.release), "index": str(index.number)},
    )


def _is_asked_by(one: Proposal, following: NextIndex) -> bool:
    index = following.index()
    same = (one.kind, one.index.release, one.index.reason, one.index.actor)
    return same == (following.kind, index.release, following.reason, following.actor)
