"""Prefect's own commands, one after another in one interpreter, whose start is their main cost."""

import sys

from flows.machine.services import WORK_POOL

POOL = ("work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
BLOCKS = ("block", "register", "-m", "blocks")
DEPLOY = ("deploy", "--all")


def main() -> None:
    """Create the pool, register the blocks and, when asked, deploy; stop at the first failure."""
    from prefect.cli import app

    commands = (POOL, BLOCKS, DEPLOY) if "--deploy" in sys.argv[1:] else (POOL, BLOCKS)
    for command in commands:
        sys.argv = ["prefect", "--no-prompt", *command]
        try:
            app()
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main()
