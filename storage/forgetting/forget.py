"""Forget rows: a new version without them everywhere at once, and a note of what must be purged.

The note, `forgotten/<run id>.json`, lists objects at commits, never a value. A table's log is cut
behind a checkpoint, since its entries state the least and greatest values of each file: no
rollback of the table leads to before that.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl
from deltalake import write_deltalake

from storage import landing, tables
from storage.errors import Refused
from storage.forgetting.selection import Selection
from storage.forgetting.traces import Place, Search, Traces, rows_in, states
from storage.lake import LANDING, MAIN, Lake, Pin
from storage.runs import Job, Outcome, Provenance, Run, commit_once, records
from storage.runs.details import Details

STAGE = "forget"
_LOG = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class ForgetDetails(Details):
    """Stage forget: what was asked for, in digests, never in values, and what it led to.

    `kind` is key or age: the first has `digests` of the keys, the second the moment `before`.
    `releases` and `branches` have the rows too. `landed` are folders of batches that went,
    `objects` how many wait to be purged.
    """

    kind: str
    dataset: str
    columns: tuple[str, ...]
    reason: str
    actor: str
    purge_after: datetime
    releases: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    digests: tuple[str, ...] | None = None
    before: str | None = None
    landed: tuple[str, ...] = ()
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What forgetting would touch at a head: rows by table, and traces in all of history.

    `landed` are folders of batches with such rows; `lingering` tables that show none and still
    have files of them below their folder, as a rollback or an edit leaves them.
    """

    head: Pin
    rows: Mapping[str, int]
    traces: Traces
    landed: tuple[str, ...]
    lingering: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the branch, as it is, shows none of the rows any more."""
        return not self.rows and not self.landed and not self.lingering


def survey(lake: Lake, repository: str, search: Search, *, on: str = MAIN) -> Survey:
    """Look everywhere, and change nothing."""
    return _survey(lake, lake.pin(repository, on), search)


def forget(
    lake: Lake,
    repository: str,
    selection: Selection,
    *,
    request: str,
    details: ForgetDetails,
    on: str = MAIN,
    by: Provenance | None = None,
) -> Outcome:
    """Take the rows out of every table of `on`, then their batches off `landing`.

    `request` and the head make a repeated command one run. Raises as `commit_once`; `on` is then
    as it was.
    """
    search = Search(lake, repository, selection)
    head = lake.pin(repository, on)
    outcome = commit_once(
        lake,
        Job(repository, STAGE, records.run_id(STAGE, request, head.commit), on=on, by=by),
        lambda run: _forget(run, search, details),
    )
    drop_batches(lake, repository, ForgetDetails.of(outcome.record).landed)
    return outcome


def drop_batches(lake: Lake, repository: str, folders: Iterable[str]) -> None:
    """Take batches off `landing`, their seals first, so that no run takes half of one."""
    landing.take_stock(lake, repository)
    for folder in folders:
        there = lake.fs.objects(repository, LANDING, prefix=f"{folder}/")
        for entry in sorted(there, key=lambda e: not e.path.endswith(landing.READY)):
            lake.fs.delete(repository, LANDING, entry.path)
    if lake.fs.list_uncommitted(repository, LANDING):
        # Refused means that an ingest that takes stock committed it in between.
        with suppress(Refused):
            lake.fs.commit(repository, LANDING, message="forgotten", metadata={})


def _survey(lake: Lake, head: Pin, search: Search) -> Survey:
    repository = head.repository
    names = tables.names(lake, repository, head.commit)
    names = [n for n in names if search.selection.concerns(f"{tables.path_of(n)}/")]
    rows = {name: rows_in(search.selection, tables.scan(lake, head, name)) for name in names}
    traces = search.traces(_heads(lake, head))
    stock = {e.path for e in lake.fs.objects(repository, LANDING, prefix="landing/")}
    landed = {p.path.rsplit("/", 1)[0] for p in traces.files if p.path in stock}
    there = {e.path for e in lake.fs.objects(repository, head.commit, prefix="tables/")}
    folders = {f"{tables.path_of(n)}/": n for n in names if not rows[n]}
    lingering = {
        name
        for folder, name in folders.items()
        if any(path.startswith(folder) and path in there for path in traces.paths)
    }
    found = {name: count for name, count in rows.items() if count}
    return Survey(head, found, traces, tuple(sorted(landed)), tuple(sorted(lingering)))


def _heads(lake: Lake, head: Pin) -> list[Pin]:
    """Every commit from which history is reached: of branches, hidden ones too, and of tags."""
    fs, repository = lake.fs, head.repository
    landing.take_stock(lake, repository)
    named = {*fs.branches(repository, hidden=True).values(), *fs.tags(repository).values()}
    return [head, *(Pin(repository, commit) for commit in sorted(named - {head.commit}))]


def _forget(run: Run, search: Search, details: ForgetDetails) -> None:
    found = _survey(run.lake, run.base, search)
    if found.is_empty:
        raise Refused("There is no such row, and nothing of it in reach.")
    for name in (*found.rows, *found.lingering):
        run.counts[f"{name}:removed"] = found.rows.get(name, 0)
        run.tables[name] = _without(run, name, search.selection, found.traces)
    note = [[place.path, place.commit] for place in found.traces.places]
    run.put(note_path(run.run_id), json.dumps({"objects": note}).encode())
    run.describe(replace(details, landed=found.landed, objects=len(note)))


def note_path(run_id: str) -> str:
    """Where the list of what must be purged stands."""
    return f"forgotten/{run_id}.json"


def note(lake: Lake, pin: Pin, run_id: str) -> list[Place]:
    """What a forgetting left to be purged."""
    data = json.loads(lake.fs.get(pin.repository, pin.commit, note_path(run_id)))
    return [Place(path, commit) for path, commit in data["objects"]]


def _without(run: Run, name: str, selection: Selection, traces: Traces) -> int:
    """Delete the rows, then whatever of the table's files and log could show them again."""
    what = f"{name} on {run.repository}/{run.branch}"
    handle = tables.open_table(run.lake, run.repository, run.branch, name)
    schema = pl.scan_delta(handle, storage_options=run.lake.storage_options).collect_schema()
    with tables.delta_errors(what):
        if run.counts[f"{name}:removed"]:
            selection.delete(handle, schema)
        if _states(run, name, int(handle.version()), selection):
            write_deltalake(handle, pl.DataFrame(schema=schema), mode="append")
        handle.create_checkpoint()
    version = int(handle.version())
    root = tables.path_of(name)
    for entry in run.lake.fs.objects(run.repository, run.branch, prefix=f"{root}/"):
        if entry.path in traces.paths or _is_older(entry.path, root, version):
            run.lake.fs.delete(run.repository, run.branch, entry.path)
    return version


def _states(run: Run, name: str, version: int, selection: Selection) -> bool:
    """Whether the newest entry of the log, which stays, says whose rows went."""
    entry = f"{tables.path_of(name)}/{_LOG}/{version:020d}.json"
    return states(run.lake.fs.get(run.repository, run.branch, entry), selection)


def _is_older(path: str, root: str, version: int) -> bool:
    """Whether an entry of the log, or a checkpoint, is of an earlier version."""
    name = path.removeprefix(f"{root}/{_LOG}/")
    number = name.partition(".")[0]
    return name != path and number.isdecimal() and int(number) < version
