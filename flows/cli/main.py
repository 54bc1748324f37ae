"""The `headrace` command: puts the sub-commands together and describes what went wrong.

Every module of flows/cli/commands/ has an `app`; one with a name is a group, one without adds its
commands to the top. They import what they use inside their functions, so that help stays fast.

Exit codes: 0 done, 1 a problem that is described, 2 wrong usage, 130 Ctrl-C.
"""

import json
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile

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
    """Run the command line; a problem is described on stderr, with exit code 1."""
    try:
        assemble()()
    except Exception as error:
        if os.environ.get("HEADRACE_DEBUG") == "1" or not _has_description(error):
            raise
        sys.stderr.write(_describe(error, as_json=_wants_json(sys.argv[1:])))
        sys.exit(1)


def _describe(error: Exception, *, as_json: bool) -> str:
    """Problem and remedy as two lines for a person, or with the code as one line of JSON."""
    problem = " ".join(str(error).split())
    remedy = " ".join(getattr(error, "remedy", "").split())
    if as_json:
        code = getattr(error, "code", "")
        told = {"error": {"code": code, "problem": problem, "remedy": remedy}}
        return f"{json.dumps(told)}\n"
    return f"problem: {problem}\n" + (f"remedy: {remedy}\n" if remedy else "")


def _wants_json(arguments: Sequence[str]) -> bool:
    # Read from the arguments, since the command that parsed them is gone when it has failed.
    return "--json" in takewhile(lambda argument: argument != "--", arguments)


def _has_description(error: Exception) -> bool:
    from flows.errors import StageError
    from security.errors import SecurityError
    from storage.errors import StorageError

    return isinstance(error, StageError | StorageError | SecurityError)


if __name__ == "__main__":
    main()
