"""The Prefect server on SQLite without lost writes: `python -m flows.machine.prefect_server`.

Stock Prefect begins its SQLite transactions deferred, so two writers that both read first cannot
both upgrade: one gets 503 and its client backs off for seconds. Taking the write lock at BEGIN
turns that failure into a wait of milliseconds. The rest is the stock server.
"""

import argparse
import os
import secrets
from base64 import urlsafe_b64encode
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.machine.home_files import read_or_create
from flows.machine.process_environment import overlay
from flows.settings import LOOPBACK, Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

# An open browser tab holds a websocket; without a limit it would hold the shutdown too.
SHUTDOWN_SECONDS = 3


def begin_immediately() -> None:
    """Make every SQLite transaction of this process take the write lock at its start."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    deferred = AioSqliteConfiguration.begin_transaction

    def begin_transaction(
        self: AioSqliteConfiguration, session: "AsyncSession", with_for_update: bool = False
    ) -> "AbstractAsyncContextManager[AsyncSessionTransaction]":
        del with_for_update
        return deferred(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore


def encryption_key(home: Path) -> str:
    """The Fernet key of block secrets; without one Prefect keeps it beside what it encrypts."""
    made = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return read_or_create(home / "prefect-encryption.key", made)


def serve(settings: Settings) -> None:
    """Run the server on loopback until SIGINT, which checkpoints the write-ahead log."""
    os.environ.update(overlay(settings))
    os.environ["PREFECT_SERVER_ENCRYPTION_KEY"] = encryption_key(settings.home)
    import uvicorn
    from prefect.server.api.server import create_app

    begin_immediately()
    uvicorn.run(
        create_app(final=True),
        host=LOOPBACK,
        port=settings.prefect_port,
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def main() -> None:
    """Serve on the port of the settings, or on --port."""
    parser = argparse.ArgumentParser(prog="python -m flows.machine.prefect_server")
    parser.add_argument("--port", type=int, help="instead of HEADRACE_PREFECT_PORT")
    port = parser.parse_args().port
    if port is not None:
        os.environ["HEADRACE_PREFECT_PORT"] = str(port)
    serve(Settings.load())


if __name__ == "__main__":
    main()
