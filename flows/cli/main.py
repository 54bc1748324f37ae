"""The `headrace` command: puts the sub-commands together and says what went wrong.

Every module of flows/cli/commands/ has an `app`; one with a name is a group, one without adds its
commands to the top. They import what they use inside their functions, so that help stays fast.

Exit codes: 0 done, 1 a problem that is described, 2 wrong usage, 130 Ctrl-C.
"""

import os
import pkgutil
import sys
from importlib import import_module

import typer

from flows.cli import commands


def assemble() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="headrace",
        help="Machine learning's stages as Prefect flows over versioned data.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Rich help costs 0.2 s at every start.
        rich_markup_mode=None,
    )
    for module in pkgutil.iter_modules(commands.__path__):
        app.add_typer(import_module(f"{commands.__name__}.{module.name}").app)
    return app


def main() -> None:
    """Run the command line; a problem becomes two lines on stderr and exit code 1."""
    try:
        assemble()()
    except Exception as error:
        if os.environ.get("HEADRACE_DEBUG") == "1" or not _is_described(error):
            raise
        sys.stderr.write(f"problem: {' '.join(str(error).split())}\n")
        if remedy := getattr(error, "remedy", ""):
            sys.stderr.write(f"remedy: {' '.join(remedy.split())}\n")
        sys.exit(1)


def _is_described(error: Exception) -> bool:
    from flows.errors import StageError
    from security.errors import SecurityError
    from storage.errors import StorageError

    return isinstance(error, StageError | StorageError | SecurityError)


if __name__ == "__main__":
    main()
