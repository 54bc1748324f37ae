"""The Delta table `metadata/runs`: records of runs as rows, for people and for readers of many.

It holds exactly the records of one commit, which `compacted/records.json` names; what happened
since is in the objects. Partitioned by stage, so that a reader of one stage opens no other's
files. `record` is the object's own text: what a row is read back from.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake

from storage.lake import Lake, Pin, url
from storage.tables.delta import delta_errors

ROOT = "metadata/"
FOLDER = f"{ROOT}runs"
_LOG = f"{FOLDER}/_delta_log/"
# A file of this size is finished: no compaction rewrites it.
_FILE_BYTES = 1 << 20
# From so many small files on, they are written together.
_SMALL_FILES = 24

SCHEMA = pl.Schema(
    {
        "stage": pl.String(),
        "run_id": pl.String(),
        "attempt": pl.String(),
        "started_at": pl.Datetime("us", "UTC"),
        "duration_s": pl.Float64(),
        "base": pl.String(),
        "superseded_by": pl.String(),
        "may_run_again": pl.Boolean(),
        "inputs": pl.String(),
        "tables": pl.String(),
        "counts": pl.String(),
        "metrics": pl.String(),
        "details": pl.String(),
        "code": pl.String(),
        "orchestrator": pl.String(),
        "record": pl.String(),
    }
)
_TEXTS = ("stage", "run_id", "attempt", "base")
_JSON = ("inputs", "tables", "counts", "metrics", "details", "code", "orchestrator")
_KEY = ("stage", "run_id", "started_at")
# The run transaction replays on a newer head; delta-rs must not do it by itself.
_ONCE = CommitProperties(max_commit_retries=0)

Texts = Mapping[str, bytes]


def folder_of(stage: str) -> str:
    """The folder of a stage's records, with the slash."""
    return f"{ROOT}{stage}/"


def path_of(stage: str, run: str) -> str:
    """The object that is the record of a run."""
    return f"{folder_of(stage)}{run}.json"


def is_record(path: str) -> bool:
    """Whether a path below `metadata/` is that of a run's record."""
    return path.startswith(ROOT) and path.count("/") == 2 and path.endswith(".json")


def write_all(lake: Lake, repository: str, branch: str, texts: Texts) -> None:
    """Make the table, or make it anew, from the texts of all records by path."""
    with _errors(repository, branch):
        write_deltalake(
            url(repository, branch, FOLDER),
            to_frame(texts.values()),
            mode="overwrite",
            partition_by=["stage"],
            storage_options=lake.storage_options,
            commit_properties=_ONCE,
        )
    _tidy(lake, repository, branch)


def write_changes(lake: Lake, repository: str, branch: str, fresh: Texts, gone: Texts) -> None:
    """Take the records `gone` out, given as the table has them, and add those in `fresh`.

    Raises: NotFound without a table, Conflict if another compaction wrote meanwhile.
    """
    old = to_frame(gone.values()).select(_KEY)
    with _errors(repository, branch):
        handle = _open(lake, repository, branch)
        if not old.is_empty():
            match = " AND ".join(f"old.{name} = gone.{name}" for name in _KEY)
            handle.merge(
                old, match, source_alias="gone", target_alias="old", commit_properties=_ONCE
            ).when_matched_delete().execute()
        if fresh:
            rows = to_frame(fresh.values())
            write_deltalake(handle, rows, mode="append", commit_properties=_ONCE)
    _tidy(lake, repository, branch)


def is_there(lake: Lake, pin: Pin) -> bool:
    """Whether there is a table at the pin."""
    address = url(pin.repository, pin.commit, FOLDER)
    with _errors(pin.repository, pin.commit):
        return bool(DeltaTable.is_deltatable(address, storage_options=lake.storage_options))


def to_frame(texts: Iterable[bytes]) -> pl.DataFrame:
    """Records as rows, oldest first."""
    rows = [_to_row(text.decode()) for text in texts]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("started_at", "run_id")


def read_rows(lake: Lake, pin: Pin, *, stage: str = "") -> Texts:
    """Path to the text of every record in the table at the pin. Raises NotFound without one."""
    with _errors(pin.repository, pin.commit):
        return _texts(_scan(lake, pin, stage))


def read_newest(lake: Lake, pin: Pin, *, stage: str = "", limit: int) -> Texts:
    """Those of the records that started last; only files that may hold them are opened."""
    with _errors(pin.repository, pin.commit):
        handle = _open(lake, pin.repository, pin.commit)
        since = _start_of_newest(handle, stage, limit)
        rows = _scan(lake, pin, stage, handle)
        if since is not None:
            rows = rows.filter(pl.col("started_at") >= since)
        return _texts(rows.sort("started_at", "run_id", descending=True).head(limit))


def contains_any(lake: Lake, pin: Pin, wanted: Iterable[str]) -> bool:
    """Whether the text of a record in the table contains one of these; false without a table."""
    with _errors(pin.repository, pin.commit):
        if not is_there(lake, pin):
            return False
        has = pl.col("record").str.contains_any(list(wanted))
        return not _scan(lake, pin, "").filter(has).head(1).collect().is_empty()


def _start_of_newest(handle: DeltaTable, stage: str, limit: int) -> datetime | None:
    """The latest moment since which at least `limit` runs started, by the files' statistics."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    if files.is_empty() or "min.started_at" not in files.columns:
        return None
    if stage:
        files = files.filter(pl.col("partition.stage") == stage)
    files = files.sort("min.started_at", descending=True)
    enough = files.filter(pl.col("num_records").cum_sum() >= limit)
    if enough.is_empty() or enough["min.started_at"].null_count():
        return None
    found: datetime = enough["min.started_at"][0]
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _scan(lake: Lake, pin: Pin, stage: str, handle: DeltaTable | None = None) -> pl.LazyFrame:
    handle = handle or _open(lake, pin.repository, pin.commit)
    rows = pl.scan_delta(handle, storage_options=lake.storage_options)
    return rows.filter(pl.col("stage") == stage) if stage else rows


def _texts(rows: pl.LazyFrame) -> Texts:
    found = rows.select("stage", "run_id", "record").collect()
    return {path_of(stage, run): text.encode() for stage, run, text in found.rows()}


def _open(lake: Lake, repository: str, ref: str) -> DeltaTable:
    return DeltaTable(url(repository, ref, FOLDER), storage_options=lake.storage_options)


def _tidy(lake: Lake, repository: str, branch: str) -> None:
    """Keep the table at few files and its log at one checkpoint, whatever its age.

    Earlier versions are those of earlier commits of the lake.
    """
    with _errors(repository, branch):
        handle = _open(lake, repository, branch)
        sizes = pl.DataFrame(handle.get_add_actions(flatten=True))["size_bytes"]
        if (sizes < _FILE_BYTES // 2).sum() > _SMALL_FILES:
            handle.optimize.compact(target_size=_FILE_BYTES)
        handle.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        handle.create_checkpoint()
        version = int(handle.version())
    for entry in lake.fs.objects(repository, branch, prefix=_LOG):
        number = entry.path.removeprefix(_LOG).partition(".")[0]
        if number.isdecimal() and int(number) < version:
            lake.fs.delete(repository, branch, entry.path)


def _to_row(text: str) -> tuple[Any, ...]:
    body = json.loads(text)
    mark = body.get("superseded") or {}
    started = datetime.fromisoformat(body["started_at"])
    row = {
        **{name: body[name] for name in _TEXTS},
        **{name: json.dumps(body.get(name) or {}, ensure_ascii=False) for name in _JSON},
        "started_at": started if started.tzinfo else started.replace(tzinfo=UTC),
        "duration_s": float(body["duration_s"]),
        "superseded_by": mark.get("by"),
        "may_run_again": mark.get("may_run_again"),
        "record": text,
    }
    return tuple(row[name] for name in SCHEMA)


@contextmanager
def _errors(repository: str, ref: str) -> Iterator[None]:
    with delta_errors(f"{FOLDER} at {repository}/{ref}"):
        yield
