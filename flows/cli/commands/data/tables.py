"""`headrace data ls`, `show` and `batches`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, AtRef, PipelineName

if TYPE_CHECKING:
    from flows.data.batches import BatchState
    from flows.data.catalog import Description, Table

app = typer.Typer()


@app.command("ls")
def list_tables(on: AtRef = "main", pipeline: PipelineName = None, as_json: AsJson = False) -> None:
    """List the tables: rows, size, Delta version and who wrote each last."""
    from flows.cli.terminal import show_json, show_table, size, tell, thousands
    from flows.context import open_context
    from flows.data.catalog import tables_at

    context = open_context(pipeline)
    pin = context.pin(on)
    found = tables_at(context.lake, pin)
    if as_json:
        show_json({"repository": pin.repository, "commit": pin.commit, "tables": found})
        return
    if not found:
        tell(f"There is no table at {pin.repository}/{on} yet; `headrace data batches` says why.")
        return
    head = ("table", "rows", "size", "version", "last writer", "run", "when (UTC)")
    rows = [
        (
            _indent(one.table),
            thousands(one.rows),
            "unreadable" if one.size_bytes is None else size(one.size_bytes),
            one.version,
            *_writer(one),
        )
        for one in found
    ]
    show_table(head, rows, right="rows size version")


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="Name of the table, as `data ls` prints it.")],
    on: AtRef = "main",
    rows: Annotated[int, typer.Option(min=0, help="How many of the first rows to show.")] = 5,
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """Describe one table: columns and their contract, size, quality, first rows."""
    from flows.cli.terminal import show_json
    from flows.context import open_context
    from flows.data.catalog import describe

    context = open_context(pipeline)
    pin = context.pin(on)
    found = describe(context.lake, context.pipeline, pin, table, rows=rows)
    if as_json:
        show_json({"repository": pin.repository, "commit": pin.commit, **_document(found)})
    else:
        _show(found)


@app.command()
def batches(
    on: Annotated[str, typer.Option("--on", metavar="BRANCH", help="Merged into what.")] = "main",
    pipeline: PipelineName = None,
    as_json: AsJson = False,
) -> None:
    """List the batches that were delivered: waiting, merged, refused (why) or undone."""
    from flows.cli.terminal import show_json, show_table, size, tell, thousands
    from flows.context import open_context
    from flows.data.batches import batch_states
    from storage.landing import take_stock

    context = open_context(pipeline)
    head = context.pin(on)
    stock = take_stock(context.lake, context.repository)
    found = batch_states(context.lake, head, stock)
    if as_json:
        show_json({"commit": head.commit, "landing": stock.commit, "batches": found})
        return
    if not found:
        tell("No batch was delivered yet.")
        return
    rows = [
        (
            one.dataset,
            one.id,
            one.state,
            size(one.size_bytes),
            *map(thousands, (one.delivered, one.kept, one.quarantined, one.duplicates)),
            _why(one),
        )
        for one in found
    ]
    names = "delivered kept quarantined duplicates"
    head_row = ("dataset", "batch", "state", "size", *names.split(), "why")
    show_table(head_row, rows, right=f"size {names}")


def _indent(table: str) -> str:
    return f"  {table}" if table.startswith("quarantine/") else table


def _writer(table: "Table") -> tuple[object, ...]:
    writer = table.writer
    if writer is None:
        return "-", "-", None
    return writer.stage or writer.started_by, writer.run_id[:12] or "-", writer.at


def _why(batch: "BatchState") -> str:
    if batch.state == "refused":
        where = f" on {batch.column}" if batch.column else ""
        return f"{batch.rule}{where}: {batch.problem}"
    return f"the same files as {batch.same_as}" if batch.same_as else ""


def _document(found: "Description") -> dict[str, object]:
    return {
        **asdict(found.table),
        "columns": found.columns,
        "rules": dict(found.rules),
        "quality": found.quality,
        "first": found.first.to_dicts(),
    }


def _show(found: "Description") -> None:
    from flows.cli.terminal import cell, say, show_table, size, thousands

    table, quality = found.table, found.quality
    stage, run, when = _writer(table)
    say(
        f"{table.table}: {thousands(table.rows)} rows, {size(table.size_bytes or 0)} in "
        f"{table.files} files, Delta version {table.version}"
    )
    say(f"last written by {stage} {run} at {cell(when)} UTC")
    if quality:
        say(
            f"{quality.batches} batches: {thousands(quality.delivered)} rows delivered = "
            f"{thousands(quality.kept)} kept + {thousands(quality.quarantined)} quarantined + "
            f"{thousands(quality.duplicates)} duplicates"
        )
        if quality.forgotten:
            say(f"  {thousands(quality.forgotten)} of the kept were forgotten since")
        for rule, count in quality.rules.items():
            say(f"  {thousands(count)} broke {rule}")
    say()
    _show_columns(found)
    if not found.first.is_empty():
        say()
        show_table(found.first.columns, found.first.rows())


def _show_columns(found: "Description") -> None:
    from flows.cli.terminal import say, show_table

    head, rows = ["column", "type", "nullable", "unit", "contract"], []
    for column in found.columns:
        nullable = {None: None, True: "yes", False: "no"}[column.nullable]
        demands = ", ".join(("key", *column.rules) if column.key else column.rules)
        rows.append((column.name, column.type, nullable, column.unit, demands))
    show_table(head, rows)
    for name, meaning in found.rules.items():
        say(f"rule {name}: {meaning}")
