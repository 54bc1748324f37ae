"""`headrace model`: the registered releases, and who can open them."""

import typer

from flows.cli.commands.model import promotion, recipients, releases

app = typer.Typer(
    name="model",
    help="Registered releases: gates, data, signatures, and where each runs.",
    no_args_is_help=True,
)
for part in (releases, promotion, recipients):
    app.add_typer(part.app)
