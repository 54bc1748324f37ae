"""`headrace model list|show|promote|…`: the registered releases."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName, Reason, Yes

if TYPE_CHECKING:
    from flows.release.catalog import CheckedRelease, ListedRelease
    from flows.release.proposals import Proposal
    from security.release.statement import ModelRelease

Environment = Annotated[
    str | None, typer.Option(help="Which environment; by default the settings' own.")
]

app = typer.Typer()


@app.command("list")
def list_releases(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """List the versions, newest first, and the environments that run them."""
    from flows.cli.terminal import show_json, show_table, tell
    from flows.context import open_context
    from flows.release.catalog import list_releases, read_policy

    context = open_context(pipeline)
    pin = context.pin_releases()
    policy = read_policy(context, pin)
    found = list_releases(context.lake, pin, context.pipeline.name, policy)
    if as_json:
        show_json([_document(one) for one in found])
        return
    if not found:
        tell(f"{context.pipeline.name} has no release yet.")
        return
    head = ("release", "registered (UTC)", "runs in", "data", "gates", "signed by", "reason")
    show_table(head, [_row(one) for one in found])


@app.command()
def show(
    release: Annotated[str, typer.Argument(help="MODEL/VERSION, as `model list` prints it.")],
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Verify a release, then show its card and everything that its statement binds."""
    from flows.cli.terminal import show_json
    from flows.context import open_context
    from flows.release.catalog import check_release, read_policy, read_running
    from storage.registry import ReleaseRef

    context, ref = open_context(pipeline), ReleaseRef.parse(release)
    pin = context.pin_releases()
    policy = read_policy(context, pin)
    found = check_release(context.lake, pin, ref, policy)
    if found.refusal or found.verified is None:
        raise found.refusal or RuntimeError(f"{ref} was neither verified nor refused")
    runs = read_running(context.lake, pin, policy)
    places = [f"{n} (index {i.number})" for n, i in runs.items() if i.release.path == ref.path]
    if as_json:
        from security.formats.strict_json import to_json

        statement = to_json(found.verified.release)
        answer = {"digest": found.verified.digest, "signed_by": found.verified.key_id}
        show_json({**answer, "runs_in": places, "card": found.card, "statement": statement})
    else:
        _show(found, found.verified.release, places)


@app.command()
def promote(
    release: Annotated[str, typer.Argument(help="MODEL/VERSION, as `model list` prints it.")],
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
        show_json([_proposed(one) for one in reversed(found)])
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


def _row(one: "ListedRelease") -> tuple[object, ...]:
    release, runs = one.release, ", ".join(f"{n} (index {i})" for n, i in one.runs_in.items())
    if release is None:
        return one.ref, None, runs or None, None, None, "NOBODY", one.problem
    return (
        one.ref,
        release.created.rstrip("Z").replace("T", " "),
        runs or None,
        " ".join(f"{name}@{pin.commit[:12]}" for name, pin in release.build.data.items()),
        _metrics(release),
        one.key_id[:12],
        release.reason,
    )


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


def _proposed(one: "Proposal") -> dict[str, object]:
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


def _metrics(release: "ModelRelease") -> str:
    """The first gates' values, shortened to four digits for a person's eye."""
    return " ".join(f"{gate.metric}={float(gate.value):.4g}" for gate in release.gates[:3])


def _document(one: "ListedRelease") -> dict[str, object]:
    release = one.release
    return {
        "release": str(one.ref),
        "registered": release.created if release else None,
        "reason": release.reason if release else None,
        "gates": {gate.metric: gate.value for gate in release.gates} if release else None,
        "data": {n: str(p.commit) for n, p in release.build.data.items()} if release else None,
        "signed_by": one.key_id or None,
        "problem": one.problem or None,
        "runs_in": dict(one.runs_in),
    }


def _show(found: "CheckedRelease", release: "ModelRelease", places: list[str]) -> None:
    from flows.cli.terminal import say, show_table

    build = release.build
    key = found.verified.key_id if found.verified else ""
    clean = "" if build.code_clean else ", with uncommitted changes"
    facts = {
        "release": f"{release.model}/{release.version}",
        "digest": release.digest,
        "runs in": ", ".join(places) or "no environment",
        "registered": f"{release.created} by {release.created_by}: {release.reason}",
        "signed by": f"{key} (releaser); {len(found.steps)} verification steps passed",
        "replaces": release.parent,
        "trained": f"{build.started} to {build.finished}, run {build.run_id[:12]}",
        **{f"data {name}": f"{p.repository}@{p.commit}" for name, p in build.data.items()},
        "code": f"{build.code_commit}{clean}",
        "lock": build.lock_sha256,
        "definition": build.definition_sha256,
        "features": build.features_sha256,
        "schema": build.schema_sha256,
        "rules": release.policy_sha256,
    }
    for name, fact in facts.items():
        say(f"{name:<14}{'-' if fact is None else fact}")
    say()
    files = [(f.name, f.size, f.sealed_size, f.sha256) for f in release.bundle.files]
    show_table(("file", "bytes", "sealed", "SHA-256"), files, right="bytes sealed")
    say()
    for line in found.card.splitlines():
        say(line)
