"""The run transaction: pinned base, a branch of its own, one commit, one merge, exactly once.

    outcome = commit_once(lake, Job("flights", "ingest", run_id), body)

`body` gets a `Run`, writes through it and returns; the record, the commit and the merge are made
here. When another run merges first and the two touch the same path, the body runs again on a
branch at the new head. The run's record on the target branch is the only proof that it happened:
it is looked up before the first attempt, before every replay and after every reply that was lost.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from storage import tables
from storage.errors import Conflict, NotFound, Refused, StorageError, Unavailable
from storage.lake import MAIN, Lake, Pin
from storage.runs import records
from storage.runs.details import Details
from storage.runs.records import Record

MAX_REPLAYS = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind. `already` is true when an earlier start had merged it."""

    record: Record
    pin: Pin
    already: bool


@dataclass(slots=True)
class Run:
    """One attempt: reads at `base`, writes on `branch`, and what its record will say."""

    lake: Lake
    base: Pin
    branch: str
    attempt: str
    run_id: str
    tables: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def repository(self) -> str:
        """The repository this run writes."""
        return self.base.repository

    def describe(self, details: Details) -> None:
        """State what the stage's record says of its own work."""
        self.details = details.to_json()

    def scan(self, table: str) -> pl.LazyFrame:
        """Rows of the table as they stood when this attempt began. Raises NotFound."""
        return tables.scan(self.lake, self.base, table)

    def append(self, table: str, frame: pl.DataFrame) -> None:
        """Add rows to the table on this run's branch; its schema is checked first."""
        if frame.is_empty():
            return
        self.tables[table] = tables.append(self.lake, self.repository, self.branch, table, frame)

    def put(self, path: str, data: bytes) -> None:
        """Write one object on this run's branch. Raises Conflict if it exists."""
        self.lake.fs.put(self.repository, self.branch, path, data, if_absent=True)

    def touch(self, dataset: str) -> None:
        """Conflict with a rollback of the dataset, though this run adds no row to it."""
        self.replace(f"touched/{dataset}", self.attempt.encode())

    def replace(self, path: str, data: bytes) -> None:
        """Write one object on this run's branch, over what was there."""
        self.lake.fs.put(self.repository, self.branch, path, data)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which code under which orchestrator's run: attributes of a record, never its identity."""

    code: Mapping[str, str] = field(default_factory=dict)
    orchestrator: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is, before its first attempt: where it commits, as which stage, under which id.

    `inputs` are the pins it reads by name, `on` the branch it merges into, `by` who started it.
    """

    repository: str
    stage: str
    run_id: str
    _: KW_ONLY
    inputs: Mapping[str, Pin] | None = None
    on: str = MAIN
    by: Provenance | None = None

    def __str__(self) -> str:
        return f"{self.stage} {self.run_id[:12]}"


def commit_once(lake: Lake, job: Job, body: Callable[[Run], None]) -> Outcome:
    """Do the work of one run and merge it into `on`, or say that it had been merged.

    Raises: Conflict after 20 replays, Refused if a rollback forbids the run, Unavailable when
    the lake stops answering; in each case `on` is as it was, or holds the whole run.
    """
    attempts = _Attempts(lake, job, body)
    for replay in range(MAX_REPLAYS + 1):
        if standing := attempts.find_standing():
            return standing
        attempts.fence()
        try:
            return attempts.attempt()
        except Conflict as error:
            _log.info("%s replays on the new head (%s)", job, error)
            time.sleep(random.uniform(0.02, 0.1) * min(replay + 1, 10))  # noqa: S311
    raise Conflict(
        f"{job} lost {MAX_REPLAYS} races for {job.repository}/{job.on}.",
        remedy="Lower the concurrency of the runs that write the same table.",
    )


@dataclass(frozen=True, slots=True)
class _Attempts:
    lake: Lake
    job: Job
    body: Callable[[Run], None]

    @property
    def branch_prefix(self) -> str:
        return f"run-{self.job.stage}-{self.job.run_id[:12]}-"

    def find_standing(self) -> Outcome | None:
        """The merged run, if it is on the target branch."""
        head = self.lake.pin(self.job.repository, self.job.on)
        found = records.find(
            self.lake, self.job.repository, head.commit, stage=self.job.stage, run=self.job.run_id
        )
        if found is None or not found.stands:
            return None
        if found.superseded:
            raise Refused(
                f"{self.job} was undone by rollback {found.superseded.by[:12]} and may not run "
                "again.",
                remedy="Deliver corrected data, or repeat the rollback with --may-run-again.",
            )
        return Outcome(found, head, already=True)

    def fence(self) -> None:
        """Delete the branches of older attempts, so that one that wakes up late cannot merge."""
        old = self.lake.fs.branches(self.job.repository, prefix=self.branch_prefix, hidden=True)
        for branch in old:
            self.lake.fs.delete_branch(self.job.repository, branch)

    def attempt(self) -> Outcome:
        started, clock = datetime.now(UTC), time.monotonic()
        base = self.lake.pin(self.job.repository, self.job.on)
        nonce = f"{int(started.timestamp()):08x}{secrets.token_hex(4)}"
        run = Run(self.lake, base, self.branch_prefix + nonce, nonce, self.job.run_id)
        self.lake.fs.create_branch(self.job.repository, run.branch, source=base.commit, hidden=True)
        try:
            self._write(run)
            record = self._record(run, started, time.monotonic() - clock)
            run.replace(record.path, record.to_json())
            self._commit(run, record)
            merged = self._merge(run, record)
        except BaseException:
            self._abandon(run)
            raise
        self._abandon(run)
        return Outcome(record, Pin(self.job.repository, merged), already=False)

    def _write(self, run: Run) -> None:
        try:
            self.body(run)
        except (NotFound, Unavailable) as error:
            # A real lakeFS's S3 gateway answers a write to a branch that is gone with a 5xx.
            named = self.lake.fs.branches(self.job.repository, prefix=run.branch, hidden=True)
            if run.branch in named:
                raise
            raise self._fenced(run) from error

    def _commit(self, run: Run, record: Record) -> None:
        try:
            self.lake.fs.commit(
                self.job.repository,
                run.branch,
                message=str(self.job),
                metadata=self._labels(record),
            )
        except Unavailable:
            # The reply was lost: the branch itself tells whether the commit was made.
            head = self.lake.fs.resolve(self.job.repository, run.branch)
            if head.metadata.get("attempt") != run.attempt:
                raise
        except NotFound as error:
            raise self._fenced(run) from error

    def _merge(self, run: Run, record: Record) -> str:
        try:
            return self.lake.fs.merge(
                self.job.repository,
                run.branch,
                into=self.job.on,
                message=str(self.job),
                metadata=self._labels(record),
            )
        except Unavailable:
            self._abandon(run)
            if merged := self._merged_by(run):
                return merged
            raise
        except NotFound as error:
            raise self._fenced(run) from error

    def _merged_by(self, run: Run) -> str | None:
        head = self.lake.pin(self.job.repository, self.job.on)
        found = records.find(
            self.lake, self.job.repository, head.commit, stage=self.job.stage, run=self.job.run_id
        )
        return head.commit if found and found.attempt == run.attempt else None

    def _fenced(self, run: Run) -> StorageError:
        return StorageError(
            f"Attempt {run.attempt} of {self.job} was superseded by a "
            "later attempt, which deleted its branch.",
            remedy="Nothing to do: the later attempt carries the run on.",
        )

    def _abandon(self, run: Run) -> None:
        """Delete the run branch; the reaper does it if the lake does not answer now."""
        try:
            self.lake.fs.delete_branch(self.job.repository, run.branch)
        except StorageError as error:
            _log.warning("run branch %s stays for the reaper: %s", run.branch, error)

    def _record(self, run: Run, started: datetime, duration_s: float) -> Record:
        job, by = self.job, self.job.by or Provenance()
        return Record(
            stage=job.stage,
            run_id=job.run_id,
            attempt=run.attempt,
            started_at=started.isoformat(),
            duration_s=round(duration_s, 3),
            base=run.base.commit,
            inputs={name: str(pin) for name, pin in (job.inputs or {}).items()},
            tables=run.tables,
            counts=run.counts,
            metrics=run.metrics,
            details=run.details,
            code=by.code,
            orchestrator=by.orchestrator,
        )

    def _labels(self, record: Record) -> dict[str, str]:
        """What a lakeFS user sees on the commit."""
        labels = {
            "stage": record.stage,
            "run_id": record.run_id,
            "attempt": record.attempt,
            "started_at": record.started_at,
            "tables": ",".join(sorted(record.tables)),
            **{f"input:{name}": pin for name, pin in record.inputs.items()},
            **{f"rows:{name}": str(n) for name, n in record.counts.items()},
            **record.code,
            **record.orchestrator,
        }
        return {name: value for name, value in labels.items() if value}
