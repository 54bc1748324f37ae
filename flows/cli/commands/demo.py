"""`headrace demo`: a year of real flights through the whole loop."""

import typer

app = typer.Typer()


@app.command()
def demo() -> None:
    """Run the example's year: months arrive, a model is trained, served, watched, replaced."""
    from flows.context import load_definition
    from flows.machine import up

    settings, _ = load_definition("examples.flights.pipeline:pipeline")
    up(settings, tell=lambda line: typer.echo(line, err=True))
    from examples.flights.show import run_demo

    run_demo(settings)
