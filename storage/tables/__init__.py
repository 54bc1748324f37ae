"""Delta tables in a lake: read at a pin, written on a run branch."""

from storage.tables.delta import (
    ROOT,
    Snapshot,
    append,
    conformed,
    delta_errors,
    earlier,
    match_on,
    names,
    open_table,
    path_of,
    quoted,
    restore,
    scan,
    snapshot,
)

__all__ = [
    "ROOT",
    "Snapshot",
    "append",
    "conformed",
    "delta_errors",
    "earlier",
    "match_on",
    "names",
    "open_table",
    "path_of",
    "quoted",
    "restore",
    "scan",
    "snapshot",
]
