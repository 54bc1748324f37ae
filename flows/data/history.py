"""What happened to the data: the commits of a branch, read together with their runs' records."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from flows.tables import quarantine_table
from storage import tables, waiting_batches
from storage.forgetting import forget
from storage.forgetting.forget import ForgetDetails
from storage.lake import Lake, Pin
from storage.lake.client import Commit
from storage.landing import IngestDetails
from storage.runs import record_table, records
from storage.runs.records import Record
from storage.versions import merge_by_key, rollback
from storage.versions.merge_by_key import MergeDetails
from storage.versions.moments import REACH
from storage.versions.rollback import RollbackDetails

_SHORT = 12


@dataclass(frozen=True, slots=True)
class RowChange:
    """What a commit did to a table's rows; None where no record says how many."""

    table: str
    added: int | None
    removed: int | None = 0
    changed: int | None = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of a branch.

    `stage` and `run_id` are empty for a commit that no run of Headrace made. `started_by` is
    the flow run's name, the command, or else who committed. `superseded` says what became of
    the run since, empty if it stands.
    """

    commit: str
    at: datetime
    stage: str
    run_id: str
    started_by: str
    changes: tuple[RowChange, ...]
    note: str
    superseded: str


def log(lake: Lake, head: Pin, *, table: str = "", limit: int) -> list[Entry]:
    """First-parent commits up to `head`, newest first; with `table`, those that wrote it."""
    commits = lake.fs.log(head.repository, head.commit, limit=REACH if table else limit)
    found = (c for c in commits if not table or table in written(lake, head.repository, c))
    return _entries(lake, head, list(islice(found, limit)))


def last_writers(lake: Lake, head: Pin, names: Collection[str]) -> dict[str, Entry]:
    """Table name to the newest commit that wrote it."""
    found: dict[str, Commit] = {}
    for commit in lake.fs.log(head.repository, head.commit, limit=REACH):
        if len(found) == len(names):
            break
        fresh = (written(lake, head.repository, commit) & set(names)) - found.keys()
        found |= dict.fromkeys(fresh, commit)
    return dict(zip(found, _entries(lake, head, list(found.values())), strict=True))


def written(lake: Lake, repository: str, commit: Commit) -> set[str]:
    """Tables that the commit wrote: its run says so, or its paths do."""
    if _is_run(commit):
        return {name for name in commit.metadata.get("tables", "").split(",") if name}
    if not commit.parents:
        return set()
    root = f"{tables.ROOT}/"
    changes = lake.fs.diff(repository, commit.parents[0], commit.id, prefix=root)
    logs = (change.path.partition("/_delta_log/") for change in changes)
    return {folder[len(root) :] for folder, mark, _ in logs if mark}


def row_changes(record: Record) -> tuple[RowChange, ...]:
    """What the run's own counts say it did to the rows of each table."""
    match record.stage:
        case waiting_batches.INGEST:
            dataset = IngestDetails.of(record).dataset
            added = {dataset: "kept", quarantine_table(dataset): "quarantined"}
            return tuple(
                RowChange(table, record.counts[count])
                for table, count in added.items()
                if record.counts[count]
            )
        case merge_by_key.STAGE:
            return tuple(_merged(record, table) for table in _counted(record, "added"))
        case forget.STAGE:
            return tuple(
                RowChange(table, 0, record.counts[f"{table}:removed"])
                for table in _counted(record, "removed")
            )
        case rollback.STAGE:
            return tuple(_rolled_back(record, table) for table in _counted(record, "after"))
        case _:
            return tuple(RowChange(table, None, None, None) for table in sorted(record.tables))


def note(record: Record) -> str:
    """What a person wants to know of the run, in one line."""
    match record.stage:
        case waiting_batches.INGEST:
            return f"batch {IngestDetails.of(record).batch}"
        case merge_by_key.STAGE:
            return f"branch {MergeDetails.of(record).branch}"
        case forget.STAGE:
            asked = ForgetDetails.of(record)
            return f"{asked.reason}; purge after {asked.purge_after:%Y-%m-%d}"
        case rollback.STAGE:
            to = Pin.parse(record.inputs["to"]).commit[:_SHORT]
            said = RollbackDetails.of(record)
            return f"to {to}, {len(said.supersedes)} runs undone: {said.reason}"
        case _:
            return str(record.details.get("outcome") or record.details.get("reason") or "")


def fate(record: Record, now: Record | None) -> str:
    """What became of a run, from its record as it was committed and as it stands now."""
    if now is None:
        return "not on this branch any more"
    if now.attempt != record.attempt:
        return "undone, and ran again since"
    if now.superseded is None:
        return ""
    again = "may" if now.superseded.may_run_again else "may not"
    return f"undone by {now.superseded.by[:_SHORT]}, {again} run again"


def _entries(lake: Lake, head: Pin, commits: Sequence[Commit]) -> list[Entry]:
    """Each run's record as it stands at `head`; as it was committed only where they differ."""
    runs = [commit for commit in commits if _is_run(commit)]
    now = _records(lake, head.repository, [(head.commit, commit) for commit in runs])
    moved = [c for c in runs if not _is_of(now.get(c.id), c)]
    then = _records(lake, head.repository, [(commit.id, commit) for commit in moved])
    return [_entry(lake, head, c, {**now, **then}.get(c.id), now.get(c.id)) for c in commits]


def _records(
    lake: Lake, repository: str, wanted: Sequence[tuple[str, Commit]]
) -> dict[str, Record]:
    """Commit id to the record of its run at a ref, for those that are there."""
    places = [
        (ref, record_table.path_of(commit.metadata["stage"], commit.metadata["run_id"]))
        for ref, commit in wanted
    ]
    found = records.read(lake, repository, places)
    return {commit.id: one for (_, commit), one in zip(wanted, found, strict=True) if one}


def _is_of(record: Record | None, commit: Commit) -> bool:
    return record is not None and record.attempt == commit.metadata["attempt"]


def _entry(
    lake: Lake, head: Pin, commit: Commit, record: Record | None, now: Record | None
) -> Entry:
    if record is None:
        names = sorted(written(lake, head.repository, commit))
        changes = tuple(RowChange(name, None, None, None) for name in names)
        return Entry(
            commit.id, _time(commit), "", "", commit.committer, changes, commit.message, ""
        )
    return Entry(
        commit.id,
        _time(commit),
        record.stage,
        record.run_id,
        started_by(record) or commit.committer,
        row_changes(record),
        note(record),
        fate(record, now),
    )


def started_by(record: Record) -> str:
    """The flow run's name or the person's command; empty if the record names neither."""
    said = record.orchestrator
    return said.get("prefect_flow_run") or said.get("command") or ""


def _is_run(commit: Commit) -> bool:
    return {"stage", "run_id", "attempt"} <= commit.metadata.keys()


def _counted(record: Record, kind: str) -> list[str]:
    return sorted(n.removesuffix(f":{kind}") for n in record.counts if n.endswith(f":{kind}"))


def _merged(record: Record, table: str) -> RowChange:
    added, removed, changed = (
        record.counts[f"{table}:{kind}"] for kind in ("added", "removed", "changed")
    )
    return RowChange(table, added, removed, changed)


def _rolled_back(record: Record, table: str) -> RowChange:
    grown = record.counts[f"{table}:after"] - record.counts[f"{table}:before"]
    return RowChange(table, max(grown, 0), max(-grown, 0))


def _time(commit: Commit) -> datetime:
    return datetime.fromtimestamp(commit.created_at, UTC)
