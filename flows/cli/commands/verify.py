"""`headrace verify`: does a registered release hold, step by step, and what is it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName, ReleaseName

if TYPE_CHECKING:
    from flows.release.catalog import CheckedRelease
    from security.policy.trust_policy import TrustPolicy

app = typer.Typer()


@app.command()
def verify(
    release: ReleaseName,
    copy_to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Leave a copy that verifies offline in a new FOLDER."),
    ] = None,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Verify a registered release: every step is named; exit code 0 only if all hold."""
    from flows.cli.terminal import show_json
    from flows.context import open_context
    from flows.release.catalog import check_release, copy_release, read_policy
    from storage.registry import ReleaseRef

    context, ref = open_context(pipeline), ReleaseRef.parse(release)
    pin = context.pin_releases()
    policy = read_policy(context, pin)
    found = check_release(context.lake, pin, ref, policy)
    if copy_to and found.verified:
        copy_release(context.lake, pin, ref, copy_to)
    if as_json:
        show_json(_document(found, str(ref), policy) | {"at": str(pin)})
    else:
        _show(found, str(ref), policy)
    if found.verified is None:
        raise typer.Exit(1)


def _document(found: "CheckedRelease", ref: str, policy: "TrustPolicy") -> dict[str, object]:
    from security.release.description import describe_release

    told = describe_release(found.verified, policy) if found.verified else {"digest": None}
    problem = str(found.refusal) if found.refusal else None
    verified = found.verified is not None
    return {**told, "release": ref, "verified": verified, "steps": found.steps, "problem": problem}


def _show(found: "CheckedRelease", ref: str, policy: "TrustPolicy") -> None:
    from flows.cli.terminal import say, tell
    from security.release.description import tell_story

    for step in found.steps:
        say(f"{step.number}. {step.title}: {step.finding}")
    if found.verified:
        say()
        for sentence in tell_story(found.verified, policy):
            say(sentence)
        say()
        say(f"verified: {ref}, release {found.verified.digest}")
    if found.refusal:
        tell(f"problem: step {len(found.steps) + 1} refuses {ref}: {found.refusal}")
        tell(f"remedy: {found.refusal.remedy or 'do not use it; a new training replaces it'}")
