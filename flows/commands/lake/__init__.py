"""`headrace lake`: keep the embedded lake sound, backed up and small."""

import typer

from flows.commands.lake import keeping

app = typer.Typer(
    name="lake",
    help="The embedded lake: check, back up, restore, collect garbage.",
    no_args_is_help=True,
)
for part in (keeping,):
    app.add_typer(part.app)
