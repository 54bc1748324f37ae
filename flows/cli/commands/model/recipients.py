"""`headrace model recipients`: who can decrypt a release."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, PipelineName, Reason, ReleaseName

if TYPE_CHECKING:
    from flows.release.recipients import Reader

app = typer.Typer(
    name="recipients", help="Who can decrypt a release: list, add, remove.", no_args_is_help=True
)

# Attack 55: what removal cannot do has to be said where it is done.
_STILL_READABLE = (
    "Whoever was removed can read {old} wherever a copy of it is, and may have kept its key. "
    "Promote {new} instead; purging the old ciphertext from the lake takes its garbage collection."
)


@app.command("list")
def list_recipients(
    release: ReleaseName, pipeline: PipelineName = None, as_json: AsJson = False
) -> None:
    """List for whom a release is sealed; it is verified first."""
    from flows.context import open_context
    from flows.release.recipients import list_readers
    from storage.registry import ReleaseRef

    context = open_context(pipeline)
    _show(list_readers(context, ReleaseRef.parse(release)), as_json=as_json)


@app.command()
def add(
    release: ReleaseName,
    name: Annotated[str, typer.Argument(help="A recipient that the policy enrols.")],
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Let one more recipient decrypt a release; payload and signatures stay as they are."""
    from flows.cli.terminal import actor, tell
    from flows.context import open_context
    from flows.release import recipients
    from storage.registry import ReleaseRef

    context = open_context(pipeline).acting(actor(), command="headrace model recipients add")
    listed, already = recipients.add_reader(context, ReleaseRef.parse(release), name)
    if already:
        tell(f"{name} can open {release} already; nothing was changed.")
    _show(listed, as_json=as_json)


@app.command()
def remove(
    release: ReleaseName,
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="A reader of the release.")],
    reason: Reason,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Make the next version of a release, encrypted anew without a reader."""
    from flows.cli.terminal import actor, say, show_json, tell
    from flows.context import open_context
    from flows.release import recipients
    from storage.registry import ReleaseRef

    context = open_context(pipeline).acting(actor(), command="headrace model recipients remove")
    old = ReleaseRef.parse(release)
    new, already = recipients.remove_reader(context, old, name, reason)
    if as_json:
        show_json({"release": str(new), "replaces": str(old), "already": already})
    else:
        say(f"{new} is {old}, encrypted anew without {name}")
    tell(_STILL_READABLE.format(old=old, new=new))


def _show(listed: "list[Reader]", *, as_json: bool) -> None:
    from flows.cli.terminal import show_json, show_table

    if as_json:
        show_json(listed)
        return
    show_table(("recipient", "key"), [(one.name or None, one.id) for one in listed])
