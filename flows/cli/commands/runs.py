"""`headrace runs`: what every run was, from the metadata store."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, AtRef, Limit, PipelineName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from storage.lake import Lake, Pin
    from storage.runs.records import Record

app = typer.Typer(name="runs", help="Every run that merged: input, rows, metrics, release.")

# The measures of a training, then of a monitored window, that a person looks at first.
_SHOWN_METRICS = 3


@app.callback(invoke_without_command=True)
def runs(
    invoked: typer.Context,
    stage: Annotated[str, typer.Option(help="Only this stage's.")] = "",
    on: AtRef = "main",
    limit: Limit = 20,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the runs that merged, newest first."""
    if invoked.invoked_subcommand:
        return
    from flows.cli.terminal import show_json, show_table
    from flows.context import open_context
    from storage.runs import records

    context = open_context(pipeline)
    found = records.read_newest(context.lake, context.pin(on), stage=stage, limit=limit)
    if as_json:
        show_json([record.to_plain() for record in found])
        return
    head = ("stage", "run", "started (UTC)", "took s", "rows", "metrics", "release", "by", "state")
    released = find_releases(context.lake, context.pin_releases(), found)
    show_table(head, [_row(record, released) for record in found], right="took s")


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="The run's id, or how it begins.")],
    on: AtRef = "main",
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Show one run's whole record."""
    from flows.cli.terminal import say, show_json
    from flows.context import open_context
    from storage.runs.records import find_one

    context = open_context(pipeline)
    record = find_one(context.lake, context.pin(on), run_id)
    if as_json:
        show_json(record.to_plain())
        return
    for name, value in record.to_plain().items():
        for line in _lines(name, value):
            say(line)


def find_releases(lake: "Lake", releases: "Pin", found: "Iterable[Record]") -> dict[str, str]:
    """Candidate to the release that came of it, for the candidates that these records name."""
    from storage.registry import layout
    from storage.runs import record_table, records

    named = {str(r.details["candidate"]) for r in found if r.details.get("candidate")}
    paths = [
        record_table.path_of(layout.REGISTER, layout.register_run(one)) for one in sorted(named)
    ]
    made = records.read(lake, releases.repository, [(releases.commit, path) for path in paths])
    return {str(r.details["candidate"]): str(r.details["release"]) for r in made if r}


def _row(record: "Record", released: "Mapping[str, str]") -> tuple[object, ...]:
    from datetime import datetime

    from flows.data.history import started_by

    metrics = list(record.metrics.items())[:_SHOWN_METRICS]
    return (
        record.stage,
        record.run_id[:12],
        datetime.fromisoformat(record.started_at),
        f"{record.duration_s:.1f}",
        " ".join(f"{name}={count:,}" for name, count in record.counts.items()),
        " ".join(f"{name}={value:.4g}" for name, value in metrics),
        record.details.get("release") or released.get(str(record.details.get("candidate"))),
        started_by(record),
        "undone" if record.superseded else _verdict(record),
    )


def _verdict(record: "Record") -> str:
    return {True: "passed", False: "not passed"}.get(record.details.get("passed", ""), "")


def _lines(name: str, value: object) -> list[str]:
    """`name: value`, and a mapping's entries below its name."""
    if isinstance(value, dict):
        inside = [f"  {line}" for key, part in value.items() for line in _lines(str(key), part)]
        return [f"{name}:", *inside] if inside else []
    return [] if value is None or value == "" else [f"{name}: {value}"]
