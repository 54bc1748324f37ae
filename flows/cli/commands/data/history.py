"""`headrace data log` and `diff`."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, AtRef, Limit, PipelineName

if TYPE_CHECKING:
    from flows.data.difference import Difference, Keys
    from flows.data.drift import ColumnMove
    from flows.data.history import Entry, RowChange

app = typer.Typer()

# How many columns of a table, and names of a column, a person is shown; the JSON has all.
_MOST_MOVED, _NAMES, _WIDE = 5, 3, 60
_VISIBLE = 0.0005


@app.command()
def log(
    table: Annotated[str, typer.Argument(help="Only commits that wrote this table.")] = "",
    on: AtRef = "main",
    limit: Limit = 20,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened, newest first: commit, stage, run, rows per table, what was undone."""
    from flows.cli.terminal import show_json, show_table
    from flows.context import open_context
    from flows.data import history

    context = open_context(pipeline)
    found = history.log(context.lake, context.pin(on), table=table, limit=limit)
    if as_json:
        show_json(found)
        return
    head = ("commit", "when (UTC)", "stage", "run", "started by", "rows", "what", "since")
    show_table(head, [_row(entry) for entry in found])


@app.command()
def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="Branch, tag, commit, REF~N, time.")],
    right: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    table: Annotated[str | None, typer.Argument(help="Only this table.")] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="COLUMN", help="Key of TABLE; may be repeated."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=0, max=10_000, help="How many keys of each kind to show.")
    ] = 5,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Compare the tables of two commits: schema, rows by key, how far each column moved."""
    from flows.cli.terminal import say, show_json
    from flows.context import open_context
    from flows.data.contracts import row_keys
    from flows.data.difference import differences

    if key and table is None:
        raise typer.BadParameter("--key needs a TABLE", param_hint="--key")
    context = open_context(pipeline)
    keys = row_keys(context.pipeline) | ({table: tuple(key)} if key and table else {})
    pins = context.pin(left), context.pin(right)
    found = differences(context.lake, *pins, keys=keys, table=table, sample=sample)
    if as_json:
        before, after = (pin.commit for pin in pins)
        show_json({"before": before, "after": after, "tables": found})
    elif not found:
        say("No table differs.")
    else:
        _show(found)


def _row(entry: "Entry") -> tuple[object, ...]:
    return (
        entry.commit[:12],
        entry.at,
        entry.stage or "-",
        entry.run_id[:12] or "-",
        entry.started_by,
        ", ".join(_change(change) for change in entry.changes) or "-",
        entry.note,
        entry.superseded,
    )


def _change(change: "RowChange") -> str:
    if change.added is None:
        return f"{change.table} written"
    counts = (("+", change.added), ("-", change.removed), ("~", change.changed))
    said = [f"{sign}{n:,}" for sign, n in counts if n]
    return " ".join([change.table, *(said or ["±0"])])


def _show(found: "list[Difference]") -> None:
    from flows.cli.terminal import say, show_table, thousands

    rows = [
        (
            one.table,
            thousands(one.rows_before),
            thousands(one.rows_after),
            *(thousands(kind.count if kind else None) for kind in _kinds(one).values()),
        )
        for one in found
    ]
    counts = "before after added changed removed"
    show_table(("table", *counts.split()), rows, right=counts)
    for one in found:
        for line in one.schema:
            say(f"{one.table} schema: {line}")
        if not one.key:
            say(f"{one.table} has no known key; name one with --key COLUMN")
        for kind, keys in _kinds(one).items():
            if keys and keys.sample:
                say(f"{one.table} {kind}, by {', '.join(one.key)}: {_sample(keys)}")
    _show_drift(found)


def _show_drift(found: "list[Difference]") -> None:
    """The columns that moved furthest; a table that nothing moved in is passed over."""
    from flows.cli.terminal import say, show_table

    rows = [
        (one.table, move.column, *_describe_move(move), _new_names(move))
        for one in found
        for move in one.drift[:_MOST_MOVED]
        if max(move.js or 0.0, abs(move.missing_after - move.missing_before)) >= _VISIBLE
    ]
    if not rows:
        return
    say()
    head = "js distance", "mean moved (sd)", "missing before", "missing after"
    show_table(("table", "column", *head, "new names"), rows)


def _describe_move(move: "ColumnMove") -> tuple[str, ...]:
    js = "-" if move.js is None else f"{move.js:.3f}"
    shift = "-" if move.shift_sd is None else f"{move.shift_sd:+.2f}"
    return js, shift, f"{move.missing_before:.1%}", f"{move.missing_after:.1%}"


def _new_names(move: "ColumnMove") -> str:
    shown = ", ".join(_short(name) for name in move.new_names[:_NAMES])
    return shown if len(move.new_names) <= _NAMES else f"{shown}, …"


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"


def _kinds(one: "Difference") -> "dict[str, Keys | None]":
    return {"added": one.added, "changed": one.changed, "removed": one.removed}


def _sample(keys: "Keys") -> str:
    from flows.cli.terminal import cell

    shown = "; ".join(" ".join(_short(cell(part)) for part in row) for row in keys.sample)
    return shown if keys.count <= len(keys.sample) else f"{shown}; …"
