"""`headrace model promote`, `proposals` and `approve`: what an environment runs next."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, Environment, PipelineName, Reason, ReleaseName, Yes

if TYPE_CHECKING:
    from flows.release.proposals import Proposal

app = typer.Typer()


@app.command()
def promote(
    release: ReleaseName,
    reason: Reason,
    environment: Environment = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Sign the environment's next index; where two releasers are demanded, propose it."""
    from flows.cli.terminal import actor, say, show_json, tell
    from flows.context import open_context
    from flows.release.promote import promote as publish
    from storage.registry import ReleaseRef

    ref = ReleaseRef.parse(release)
    context = open_context(pipeline).acting(actor(), command="headrace model promote")
    place = environment or context.settings.environment
    done = publish(context, ref, environment=place, reason=reason)
    if as_json:
        show_json({**asdict(done), "release": str(ref)})
        return
    if done.already:
        tell("This was done before; nothing was changed now.")
    say(done.told)


@app.command()
def proposals(
    environment: Environment = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the indexes that wait for another releaser, and what became of earlier ones."""
    from flows.cli.terminal import show_json, show_table, tell
    from flows.context import open_context
    from flows.release.proposals import list_proposals as read

    context = open_context(pipeline)
    pin, trusted = context.pin_releases(), context.trusted
    found = read(context.lake, pin, trusted, environment or context.settings.environment)
    if as_json:
        show_json([_proposal_document(one) for one in reversed(found)])
        return
    if not found:
        tell("There are no proposals.")
        return
    head = ("proposal", "state", "kind", "release", "signatures", "by", "expires (UTC)", "reason")
    show_table(head, [_proposal_row(one) for one in reversed(found)], right="proposal")


@app.command()
def approve(
    proposal: Annotated[int, typer.Argument(help="Its number, as `model proposals` prints it.")],
    environment: Environment = None,
    yes: Yes = False,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Verify what a proposal names and sign it too; the last signature needed publishes it."""
    from flows.cli.terminal import actor, confirm, say, show_json
    from flows.context import open_context
    from flows.release.approval import approve as sign
    from flows.release.proposals import open_proposal

    context = open_context(pipeline).acting(actor(), command="headrace model approve")
    place = environment or context.settings.environment
    pin = context.pin_releases()
    one = open_proposal(context.lake, pin, context.trusted, place, proposal)
    _tell_proposal(one)
    confirm(f"Sign proposal {proposal} of {place}?", yes=yes)
    done = sign(context, environment=place, number=proposal, shown=one)
    if as_json:
        show_json({"proposal": proposal, "index": done.index, "missing": done.missing})
    elif done.index is None:
        say(f"proposal {proposal} of {place} is signed; {done.missing} more must sign")
    else:
        say(f"{place} index {done.index} names {_release_of(one)}")


def _release_of(one: "Proposal") -> str:
    return f"{one.index.release.model}/{one.index.release.version}"


def _tell_proposal(one: "Proposal") -> None:
    from flows.cli.terminal import tell

    index = one.index
    tell(
        f"{index.actor} proposes a {one.kind} to {_release_of(one)} ({index.reason}) as index "
        f"{index.number} of {index.environment}; {len(one.key_ids)} of {one.needed} have signed."
    )


def _proposal_row(one: "Proposal") -> tuple[object, ...]:
    signed = f"{len(one.key_ids)} of {one.needed}"
    index = one.index
    return (
        one.number,
        one.state,
        one.kind,
        _release_of(one),
        signed,
        index.actor,
        one.expires,
        index.reason,
    )


def _proposal_document(one: "Proposal") -> dict[str, object]:
    return {
        "proposal": one.number,
        "state": one.state,
        "kind": one.kind,
        "environment": one.index.environment,
        "release": _release_of(one),
        "index": one.index.number,
        "actor": one.index.actor,
        "reason": one.index.reason,
        "signed_by": one.key_ids,
        "needed": one.needed,
        "expires": one.expires,
    }
