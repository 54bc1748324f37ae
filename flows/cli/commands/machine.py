"""`headrace up`, `down`, `status` and `demo`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.machine import ServiceStatus

app = typer.Typer()


@app.command()
def demo() -> None:
    """Run the example's year: months arrive, a model is trained, served, watched, replaced."""
    from flows import machine
    from flows.cli.terminal import tell
    from flows.context import load_definition

    settings, _ = load_definition("examples.flights.pipeline:pipeline")
    machine.up(settings, tell=tell)
    from examples.flights.show import run_demo

    run_demo(settings)


@app.command()
def up() -> None:
    """Start the lake, Prefect, a worker and the prediction service, and wait for them."""
    from flows import machine
    from flows.cli.terminal import tell
    from flows.settings import Settings

    _show(machine.up(Settings.load(), tell=tell))


@app.command()
def down() -> None:
    """Stop what `up` started, and the flow runs in progress."""
    from flows import machine
    from flows.cli.terminal import tell
    from flows.settings import Settings

    machine.down(Settings.load(), tell=tell)


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="A list that a program can read.")
    ] = False,
) -> None:
    """Show each process: state, process id, address, since when, memory."""
    from flows import machine
    from flows.cli.terminal import show_json
    from flows.settings import Settings

    found = machine.status(Settings.load())
    if as_json:
        show_json(found)
    else:
        _show(found)


def _show(found: "list[ServiceStatus]") -> None:
    rows = [_row(one) for one in found]
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("service", "state", "pid", "address", "since", "memory", box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _row(one: "ServiceStatus") -> tuple[str, ...]:
    memory = "-" if one.memory_bytes is None else f"{one.memory_bytes / 1e6:.0f} MB"
    return one.name, one.state, str(one.pid or "-"), one.address, one.since or "-", memory
