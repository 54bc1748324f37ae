"""`headrace lake`: keep the embedded lake sound, backed up and small, and say who may open it."""

import typer

from flows.cli.commands.lake import keys, upkeep

app = typer.Typer(
    name="lake",
    help="The embedded lake: check, back up, restore, collect garbage, keys.",
    no_args_is_help=True,
)
for part in (upkeep, keys):
    app.add_typer(part.app)
