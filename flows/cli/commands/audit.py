"""`headrace audit`: who did what, and the proof that nobody rewrote it."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, Limit, PipelineName, ReleaseName

if TYPE_CHECKING:
    from flows.audit.examine import LogExamination
    from security.audit.log import AuditEntry, Checkpoint

app = typer.Typer(
    name="audit",
    help="The log of signings, promotions, rollbacks and refusals.",
    no_args_is_help=True,
)


@app.command()
def log(
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; the first day to show."),
    ] = None,
    kind: Annotated[str, typer.Option(help="Only this kind, such as `refused` or `key`.")] = "",
    limit: Limit = 50,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the entries, newest first; the log is compared with its own head first."""
    from flows.audit import read_log
    from flows.cli.terminal import show_json, show_table, tell
    from flows.context import open_context
    from security.formats.strict_json import to_json

    context = open_context(pipeline)
    entries = read_log(context.lake, context.pin_releases()).entries
    start = f"{since:%Y-%m-%dT%H:%M:%SZ}" if since else ""
    found = [e for e in reversed(entries) if e.at >= start and _is_of(e, kind)][:limit]
    if as_json:
        show_json([to_json(entry) for entry in found])
        return
    if not found:
        tell(f"Nothing of that is among the log's {len(entries)} entries.")
        return
    head = ("number", "at (UTC)", "kind", "actor", "subject", "signed by", "reason")
    show_table(head, [_row(entry) for entry in found], right="number")


@app.command()
def verify(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """Check the whole log, its checkpoint, and that it agrees with the repository."""
    from flows.audit.examine import examine
    from flows.cli.terminal import show_json
    from flows.context import open_context
    from flows.release.catalog import read_policy

    context = open_context(pipeline)
    pin = context.pin_releases()
    policy = read_policy(context, pin)
    found = examine(context.lake, pin, policy, context.trusted.floors)
    if as_json:
        show_json({"holds": not found.problems, "at": str(pin), **_document(found)})
    else:
        _show(found)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def prove(
    release: ReleaseName,
    out: Annotated[Path | None, typer.Option(help="The file to write, instead of stdout.")] = None,
    pipeline: PipelineName = None,
) -> None:
    """Write the proof that the log tells of a release, for `python -m security audit-proof`."""
    from flows.audit.proof import make_proof
    from flows.cli.terminal import say, tell
    from flows.context import open_context
    from flows.release.catalog import read_policy
    from security.audit.proof import to_text
    from storage.registry import ReleaseRef

    context, ref = open_context(pipeline), ReleaseRef.parse(release)
    pin = context.pin_releases()
    policy = read_policy(context, pin)
    proof = make_proof(context.lake, pin, ref, policy)
    if out is None:
        say(to_text(proof).rstrip())
        return
    out.write_text(to_text(proof))
    tell(f"{out} proves {len(proof.entries)} entries about {ref}.")


@app.command()
def checkpoint(pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """Sign the log as it stands, if it grew; needs the timestamp role's key."""
    from flows.audit.checkpoint import read_checkpoint, refresh_checkpoint
    from flows.cli.terminal import actor, say, show_json
    from flows.context import open_context

    context = open_context(pipeline).acting(actor(), command="headrace audit checkpoint")
    signed = refresh_checkpoint(context)
    policy = context.trusted.policy
    standing = read_checkpoint(context.lake, context.pin_releases(), policy)
    if as_json:
        show_json({"signed": signed, "checkpoint": standing})
    else:
        say(f"{'signed' if signed else 'nothing to sign'}: {_describe_checkpoint(standing)}")


def _is_of(entry: "AuditEntry", kind: str) -> bool:
    return not kind or entry.kind == kind or entry.kind.startswith(f"{kind}.")


def _row(entry: "AuditEntry") -> tuple[object, ...]:
    signers = ", ".join(key[:12] for key in entry.key_ids or ()) or None
    at = entry.at.rstrip("Z").replace("T", " ")
    return entry.number, at, entry.kind, entry.actor, entry.subject, signers, entry.reason


def _describe_checkpoint(checkpoint: "Checkpoint | None") -> str:
    if checkpoint is None:
        return "no checkpoint yet"
    return f"checkpoint of {checkpoint.created} over {checkpoint.size} entries"


def _document(found: "LogExamination") -> dict[str, object]:
    return {
        "entries": found.size,
        "root": found.root,
        "checkpoint": found.checkpoint,
        "known_before": found.known,
        "compared": found.compared,
        "problems": found.problems,
    }


def _show(found: "LogExamination") -> None:
    from flows.cli.terminal import say, tell

    say(f"1. log: {found.size} entries, root {found.root}")
    say(f"2. checkpoint: {_describe_checkpoint(found.checkpoint)}")
    say(f"3. floor: the log begins with the {found.known} entries known here before")
    say(f"4. repository: {found.compared} releases, indexes, timestamps and policies compared")
    for problem in found.problems:
        tell(f"problem: {problem}")
    if found.problems:
        tell("remedy: the commits of the releases repository show who wrote past the stages")
    else:
        say("the audit log holds")
