"""Connections to the lake's SQLite files, and their rows."""

from pathlib import Path
from typing import Any

import apsw

from storage.errors import Unavailable

BUSY_MS = 10_000
SOUND_SQLITE = (3, 51, 3)
"""Earlier versions can corrupt a file when the write-ahead log is reset."""
Value = str | bytes | int | None


def connect(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> apsw.Connection:
    """A connection whose commits are on disk when they return. Raises: apsw.Error."""
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def fetch_all(connection: apsw.Connection, sql: str, *values: Value) -> list[tuple[Any, ...]]:
    """All rows of a query; no statement stays open behind it."""
    return connection.execute(sql, values).fetchall()


def fetch_first(connection: apsw.Connection, sql: str, *values: Value) -> tuple[Any, ...] | None:
    """The first row of a query, if it has one."""
    found = fetch_all(connection, sql, *values)
    return found[0] if found else None


def check_sqlite(version: str = apsw.sqlite_lib_version()) -> None:
    """Raises: Unavailable if this SQLite can lose what it acknowledged."""
    if tuple(int(part) for part in version.split(".")) < SOUND_SQLITE:
        needed = ".".join(str(part) for part in SOUND_SQLITE)
        raise Unavailable(
            f"SQLite {version} can corrupt the lake; {needed} or newer is needed",
            remedy=f"Install the locked requirements: apsw {needed} or newer brings its own.",
        )
