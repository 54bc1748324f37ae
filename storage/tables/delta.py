"""Delta tables at a pin (read, lazily) and on a run branch (write, schema checked first)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from storage.errors import Conflict, Damaged, NotFound, Refused, StorageError, Unavailable
from storage.lake import Lake, Pin, url

ROOT = "tables"
_LOG = "_delta_log"
# How delta-rs says that an entry of the log, or a checkpoint, is not there.
_LOST = re.compile(r"File not found|Object at location \S+ not found")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def path_of(table: str) -> str:
    """Where a dataset lives in its repository."""
    return f"{ROOT}/{table}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at a ref: Delta version, row count (from the log) and active files.

    `file_rows` holds the rows of each of `files`.
    """

    table: str
    version: int
    rows: int
    size_bytes: int
    files: tuple[str, ...]
    file_rows: tuple[int, ...] = ()


def names(lake: Lake, repository: str, ref: str, *, below: str = "") -> list[str]:
    """Every table that exists at the ref; a name may have a folder, as `quarantine/flights`."""
    found: list[str] = []
    for folder in lake.fs.folders(repository, ref, prefix=f"{ROOT}/{below}"):
        name = f"{below}{folder}"
        inside = lake.fs.folders(repository, ref, prefix=f"{ROOT}/{name}/")
        found += [name] if _LOG in inside else names(lake, repository, ref, below=f"{name}/")
    return found


def scan(lake: Lake, pin: Pin, table: str) -> pl.LazyFrame:
    """The table's rows at the pin. Raises NotFound if it does not exist there."""
    handle = open_table(lake, pin.repository, pin.commit, table)
    return pl.scan_delta(handle, storage_options=lake.storage_options)


def open_table(lake: Lake, repository: str, ref: str, table: str) -> DeltaTable:
    """The deltalake handle at a ref. Raises NotFound, Refused for a name that is no dataset's."""
    _require_plain(table)
    with delta_errors(f"{table} at {repository}/{ref}"):
        return DeltaTable(
            url(repository, ref, path_of(table)), storage_options=lake.storage_options
        )


def _require_plain(table: str) -> None:
    """What an address would have to escape, delta-rs and polars escape differently."""
    if not _NAME.fullmatch(table):
        raise Refused(
            f"{table!r} cannot be the name of a dataset.",
            remedy="Use letters, digits, dots, dashes and underscores, and / for a folder.",
        )


@contextmanager
def delta_errors(what: str) -> Iterator[None]:
    """Translate what delta-rs raises, with what was asked for in the text."""
    try:
        yield
    except TableNotFoundError as error:
        raise NotFound(
            f"There is no dataset {what}.", remedy="`headrace data ls` prints those there are."
        ) from error
    except CommitFailedError as error:
        raise Conflict(f"Another writer took the next version of {what}.") from error
    except DeltaError as error:
        if _LOST.search(str(error)):
            # Not NotFound: a table that was there must never be taken for one that was not yet.
            raise Damaged(
                f"{what} cannot be read any more: part of its log is gone.",
                remedy="`headrace data log` names the purge that erased it; if none did, restore "
                "the lake from a backup.",
            ) from error
        raise StorageError(f"{what}: {error}") from error
    except OSError as error:
        raise Unavailable(
            f"No answer from the lake's S3 gateway ({what}): {str(error).splitlines()[0][:200]}",
            remedy="Start it with `headrace up`, or correct LAKEFS_ENDPOINT.",
        ) from error


def snapshot(lake: Lake, repository: str, ref: str, table: str) -> Snapshot:
    """Version, rows, bytes and active files, from the Delta log alone."""
    handle = open_table(lake, repository, ref, table)
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    if actions.is_empty():
        return Snapshot(table, handle.version(), 0, 0, ())
    actions = actions.sort("path")
    return Snapshot(
        table,
        handle.version(),
        int(actions["num_records"].sum()),
        int(actions["size_bytes"].sum()),
        tuple(actions["path"].to_list()),
        tuple(int(rows or 0) for rows in actions["num_records"]),
    )


def append(lake: Lake, repository: str, branch: str, table: str, frame: pl.DataFrame) -> int:
    """Add rows on a run branch, creating the table with the first; returns its new version.

    Raises: Refused if columns or types differ from the table's (delta-rs would cast without a
    word), Conflict if another writer took the version.
    """
    try:
        handle = open_table(lake, repository, branch, table)
    except NotFound:
        handle = None
    if handle is not None:
        frame = conformed(frame, handle, table)
    with delta_errors(f"{table} on {repository}/{branch}"):
        write_deltalake(
            handle or url(repository, branch, path_of(table)),
            frame,
            mode="append",
            storage_options=None if handle else lake.storage_options,
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    return int(open_table(lake, repository, branch, table).version())


def match_on(key: Sequence[str], frame: pl.DataFrame) -> str:
    """The SQL by which rows of `old` (the table) and `new` (the frame) are one, for a Delta merge.

    Null is one key as any other, and so is NaN; SQL's own equality is kept where neither is in
    the frame, since only that can be matched by hashing.
    """
    return " AND ".join(
        f"old.{name} {'IS NOT DISTINCT FROM' if _is_odd(frame[column]) else '='} new.{name}"
        for column in key
        for name in [quoted(column)]
    )


def quoted(column: str) -> str:
    """A column's name as SQL takes any name."""
    escaped = column.replace('"', '""')
    return f'"{escaped}"'


def _is_odd(values: pl.Series) -> bool:
    is_nan = values.dtype.is_float() and bool(values.is_nan().any())
    return is_nan or values.null_count() > 0


def conformed(frame: pl.DataFrame, handle: DeltaTable, table: str) -> pl.DataFrame:
    """The frame with the table's column order. Raises Refused on any other difference."""
    stands = pl.scan_delta(handle).collect_schema()
    differences = [
        f"{name}: {frame.schema.get(name, 'missing')} for {stands.get(name, 'no such column')}"
        for name in sorted({*stands, *frame.schema})
        if stands.get(name) != frame.schema.get(name)
    ]
    if differences:
        raise Refused(
            f"Rows do not have the schema of {table}: {'; '.join(differences)}.",
            remedy="Change the dataset's contract in a release of its own, or fix the writer.",
        )
    return frame.select(stands.names())


def restore(
    lake: Lake, repository: str, branch: str, table: str, *, to: Pin
) -> tuple[Snapshot, Snapshot]:
    """A new version on `branch` with the rows and active files that stood at `to`.

    Returns the snapshot before and after. Files that were vacuumed since come back from the old
    commit; a table that did not exist there is emptied. Raises Refused if the table's log was
    rewritten since, so that no version matches.
    """
    before = snapshot(lake, repository, branch, table)
    old = earlier(lake, repository, branch, table, to=to)
    if before.files == (old.files if old else ()):
        return before, before
    handle = open_table(lake, repository, branch, table)
    if old:
        _bring_back(lake, repository, branch, table, old.files, to)
    with delta_errors(f"{table} on {repository}/{branch}"):
        if old:
            handle.restore(old.version)
        else:
            handle.delete()
    return before, snapshot(lake, repository, branch, table)


def earlier(lake: Lake, repository: str, ref: str, table: str, *, to: Pin) -> Snapshot | None:
    """The table as it stood at `to`; None if it did not exist yet.

    Raises: Refused if that is no earlier version of the table at `ref`.
    """
    try:
        old = snapshot(lake, to.repository, to.commit, table)
    except NotFound:
        return None
    if not _is_ancestor(lake, repository, ref, to, table, old.version):
        raise Refused(
            f"{table} at {to.commit[:12]} is not an earlier version of {table} on this branch: "
            "another branch's, or from before rows were forgotten.",
            remedy="Choose a later commit of this branch's own history: `headrace data log`.",
        )
    return old


def _is_ancestor(
    lake: Lake, repository: str, branch: str, to: Pin, table: str, version: int
) -> bool:
    log = f"{path_of(table)}/{_LOG}/{version:020d}.json"
    then = {e.path: e.checksum for e in lake.fs.objects(repository, to.commit, prefix=log)}
    now = {e.path: e.checksum for e in lake.fs.objects(repository, branch, prefix=log)}
    return bool(then) and then == now


def _bring_back(
    lake: Lake, repository: str, branch: str, table: str, files: Iterable[str], to: Pin
) -> None:
    root = path_of(table)
    present = {e.path for e in lake.fs.objects(repository, branch, prefix=f"{root}/")}
    for file in files:
        path = f"{root}/{file}"
        if path not in present:
            lake.fs.copy(repository, path, source_ref=to.commit, branch=branch)
