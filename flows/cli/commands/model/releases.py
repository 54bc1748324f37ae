"""`headrace model list` and `show`: the registered releases."""

from typing import TYPE_CHECKING

import typer

from flows.cli.options import AsJson, PipelineName, ReleaseName

if TYPE_CHECKING:
    from flows.release.catalog import CheckedRelease, ListedRelease
    from security.release.statement import ModelRelease

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
    release: ReleaseName,
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
