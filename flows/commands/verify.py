"""`headrace verify`: does a registered release hold, step by step."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.commandline import AsJson, PipelineName

if TYPE_CHECKING:
    from flows.serve.releases import Checked

app = typer.Typer()


@app.command()
def verify(
    release: Annotated[str, typer.Argument(help="MODEL/VERSION, as `model list` prints it.")],
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Verify a registered release: every step is named; exit code 0 only if all hold."""
    from flows.lakes import open_pipeline
    from flows.serve.releases import check, policy_of
    from flows.terminal import show_json
    from storage.registry import ReleaseRef

    opened, ref = open_pipeline(pipeline), ReleaseRef.parse(release)
    pin = opened.releases()
    policy = policy_of(opened.lake, pin, opened.settings.keys)
    found = check(opened.lake, pin, ref, policy)
    if as_json:
        digest = found.verified.digest if found.verified else None
        problem = str(found.refusal) if found.refusal else None
        answer = {"release": str(ref), "verified": found.verified is not None, "digest": digest}
        show_json({**answer, "at": str(pin), "steps": found.steps, "problem": problem})
    else:
        _show(found, str(ref))
    if found.verified is None:
        raise typer.Exit(1)


def _show(found: "Checked", ref: str) -> None:
    from flows.terminal import say, tell

    for step in found.steps:
        say(f"{step.number}. {step.title}: {step.finding}")
    if found.verified:
        say(f"verified: {ref}, release {found.verified.digest}")
    if found.refusal:
        tell(f"problem: step {len(found.steps) + 1} refuses {ref}: {found.refusal}")
        tell(f"remedy: {found.refusal.remedy or 'do not use it; a new training replaces it'}")
