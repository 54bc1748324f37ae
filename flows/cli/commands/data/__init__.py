"""`headrace data`: look at the datasets of a lake, compare, branch, merge and take them back."""

import typer

from flows.cli.commands.data import (
    branches,
    forget,
    gc,
    history,
    purge,
    rollback,
    tables,
)

app = typer.Typer(
    name="data",
    help="Datasets and their history: look, compare, branch, merge, take back.",
    no_args_is_help=True,
)
for part in (tables, history, branches, rollback, forget, purge, gc):
    app.add_typer(part.app)
