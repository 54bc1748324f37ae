"""What the lake holds that nothing needs any more, and how many bytes it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flows.data.batches import batch_states
from storage import landing, tables
from storage.errors import NotFound
from storage.lake import LANDING, Lake, Pin
from storage.runs import records
from storage.runs.reaper import STAGE_DEADLINE, reapable
from storage.waiting_batches import INGEST


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that could go.

    kind: `run branch`, `batch`, `table files` or `lake` (bytes that no ref reaches). Removing
    anything but `lake` only takes it off the branch: commits before still have it.
    """

    kind: str
    name: str
    objects: int
    octets: int
    why: str


def candidates(lake: Lake, head: Pin, *, releases: str, older_than: timedelta) -> list[Candidate]:
    """Dead run branches, landed batches and table files; `head` is main's commit."""
    return [
        *_run_branches(lake, head.repository),
        *_run_branches(lake, releases),
        *_batches(lake, head, older_than=older_than),
        *_table_files(lake, head, older_than=older_than),
    ]


def _run_branches(lake: Lake, repository: str) -> Iterator[Candidate]:
    if repository not in lake.fs.repositories():
        return
    hours = STAGE_DEADLINE.total_seconds() / 3600
    for branch in reapable(lake, repository, older_than=STAGE_DEADLINE):
        why = f"its run began over {hours:g} hours ago and never merged"
        yield Candidate("run branch", f"{repository}/{branch}", 0, 0, why)


def _batches(lake: Lake, head: Pin, *, older_than: timedelta) -> Iterator[Candidate]:
    """Batches on the landing branch whose rows are on main for that long."""
    try:
        stock = lake.pin(head.repository, LANDING)
    except NotFound:
        return
    limit = datetime.now(UTC) - older_than
    runs = {record.run_id: record for record in records.at(lake, head, stage=INGEST)}
    sizes = {entry.path: entry.size for entry in lake.fs.objects(stock.repository, stock.commit)}
    for state in batch_states(lake, head, stock):
        if state.state != "merged":
            continue
        landed = datetime.fromisoformat(runs[state.run_id].started_at)
        folder = f"landing/{state.dataset}/{state.id}/"
        held = [size for path, size in sizes.items() if path.startswith(folder)]
        if landed < limit and f"{folder}{landing.READY}" in sizes:
            why = f"merged {landed:%Y-%m-%d}"
            yield Candidate("batch", folder.rstrip("/"), len(held), sum(held), why)


def _table_files(lake: Lake, head: Pin, *, older_than: timedelta) -> Iterator[Candidate]:
    """Files that no version of a table within the retention refers to."""
    hours = int(older_than.total_seconds() // 3600)
    for table in tables.names(lake, head.repository, head.commit):
        handle = tables.open_table(lake, head.repository, head.commit, table)
        with tables.delta_errors(f"{table} at {head.repository}/{head.commit}"):
            dead = handle.vacuum(
                retention_hours=hours, dry_run=True, enforce_retention_duration=False
            )
        folder = tables.path_of(table)
        if not dead:
            continue
        held = lake.fs.objects(head.repository, head.commit, prefix=f"{folder}/")
        sizes = [entry.size for entry in held if entry.path.removeprefix(f"{folder}/") in set(dead)]
        why = f"no version of the last {hours / 24:g} days refers to them"
        yield Candidate("table files", table, len(dead), sum(sizes), why)
