"""The version graph's SQLite file: many readers on snapshots, one writer that commits in groups.

Every write is a job for the writer thread. Jobs that wait at the same moment share one
transaction, hence one sync to disk; each is answered only after that sync (WAL,
synchronous=FULL), and a job that fails takes nothing but its own savepoint with it.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

from storage.embedded.errors import DiskFull, WritesStopped
from storage.errors import Damaged, StorageError

GROUP_SIZE = 64
BUSY_MS = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS repository(
  id TEXT PRIMARY KEY, namespace TEXT NOT NULL, default_branch TEXT NOT NULL,
  created_s INTEGER NOT NULL, read_only INTEGER NOT NULL, protection TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS branch(
  repository TEXT NOT NULL, name TEXT NOT NULL, head TEXT NOT NULL, hidden INTEGER NOT NULL,
  staging INTEGER NOT NULL, PRIMARY KEY(repository, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS staging_area(id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS staged(
  version INTEGER PRIMARY KEY AUTOINCREMENT, area INTEGER NOT NULL, key TEXT NOT NULL,
  entry TEXT, UNIQUE(area, key)
);
CREATE TABLE IF NOT EXISTS tag(
  repository TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL,
  PRIMARY KEY(repository, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commits(
  repository TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY(repository, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node(id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS upload(
  id TEXT PRIMARY KEY, repository TEXT NOT NULL, branch TEXT NOT NULL, key TEXT NOT NULL,
  content_type TEXT NOT NULL, metadata TEXT NOT NULL, created_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part(
  upload TEXT NOT NULL, number INTEGER NOT NULL, file TEXT NOT NULL, etag TEXT NOT NULL,
  size INTEGER NOT NULL, modified_s INTEGER NOT NULL, PRIMARY KEY(upload, number)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
SCHEMA_VERSION = 1

T = TypeVar("T")
Value = str | bytes | int | None
_Job = tuple[Callable[[apsw.Connection], Any], "Future[Any]"]


@dataclass
class Health:
    """Whether this process may still promise durability; one failed sync ends that for good."""

    stopped_by: str = ""

    def stop(self, cause: BaseException) -> WritesStopped:
        """Refuse every later write: after a failed sync the kernel may have dropped the pages."""
        self.stopped_by = self.stopped_by or str(cause)
        return self.refusal()

    def refusal(self) -> WritesStopped:
        """The error that every write gets from now on."""
        return WritesStopped(
            f"the lake is read-only because the disk failed to sync: {self.stopped_by}",
            remedy="Check the disk, then restart the lake.",
        )

    def check(self) -> None:
        """Raises: WritesStopped once a sync has failed."""
        if self.stopped_by:
            raise self.refusal()


class Database:
    """One SQLite file with its writer thread; close it to stop the thread and checkpoint."""

    def __init__(self, path: Path, health: Health) -> None:
        self._path, self._health = path, health
        self._idle: list[apsw.Connection] = []
        self._idle_lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = _open(path)
        self._thread = threading.Thread(target=self._work, name="lake-writer", daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection on one consistent snapshot."""
        connection = self._borrow()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")
            with self._idle_lock:
                self._idle.append(connection)

    def write(self, job: Callable[[apsw.Connection], T]) -> "Future[T]":
        """What `job` returns, once its changes are durable; its changes are undone if it raises."""
        self._health.check()
        done: Future[T] = Future()
        self._jobs.put((job, done))
        return done

    def close(self) -> None:
        """Finish the queued writes, then close."""
        self._jobs.put(None)
        self._thread.join()
        with self._idle_lock:
            for connection in self._idle:
                connection.close()
        self._writer.close()

    def _borrow(self) -> apsw.Connection:
        with self._idle_lock:
            if self._idle:
                return self._idle.pop()
        return _connect(self._path)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job]
            while len(group) < GROUP_SIZE and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    self._jobs.put(None)
                    break
                group.append(following)
            self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job, done in group:
                outcomes.append((done, *self._attempt(job)))
            self._writer.execute("COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            failure = self._translate(error)
            outcomes = [(done, None, failure) for _, done in group]
        for done, result, problem in outcomes:
            if problem is None:
                done.set_result(result)
            else:
                done.set_exception(problem)

    def _attempt(self, job: Callable[[apsw.Connection], Any]) -> tuple[Any, BaseException | None]:
        self._writer.execute("SAVEPOINT job")
        try:
            result, problem = job(self._writer), None
        except (apsw.FullError, apsw.IOError, apsw.CorruptError):
            raise  # SQLite may have rolled the whole group back
        except Exception as error:
            self._writer.execute("ROLLBACK TO job")
            result, problem = None, error
        self._writer.execute("RELEASE job")
        return result, problem

    def _translate(self, error: BaseException) -> BaseException:
        if isinstance(error, apsw.FullError):
            return disk_full()
        if isinstance(error, apsw.IOError):
            return self._health.stop(error)
        return error


def rows_of(connection: apsw.Connection, sql: str, *values: Value) -> list[tuple[Any, ...]]:
    """All rows of a query; no statement stays open behind it."""
    return connection.execute(sql, values).fetchall()


def row_of(connection: apsw.Connection, sql: str, *values: Value) -> tuple[Any, ...] | None:
    """The first row of a query, if it has one."""
    found = rows_of(connection, sql, *values)
    return found[0] if found else None


def disk_full() -> DiskFull:
    """The 507 that says what happened and what to do."""
    return DiskFull("no space left on the lake's disk", remedy="Free some space and try again.")


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _open(path: Path) -> apsw.Connection:
    """Create or check the file. Raises: Damaged if it is not a sound graph of this version."""
    try:
        connection = _connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        verdict = connection.pragma("quick_check")
        version = connection.pragma("user_version")
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise _damaged(path, str(error)) from error
    if verdict != "ok" or version not in (0, SCHEMA_VERSION):
        raise _damaged(path, verdict if verdict != "ok" else f"schema version {version}")
    if version == 0:
        connection.execute(f"BEGIN; {SCHEMA} COMMIT;")
    return connection


def _damaged(path: Path, cause: str) -> StorageError:
    return Damaged(
        f"{path} is not a sound lake: {cause}",
        remedy="Restore it from a backup, or move it away to start an empty lake.",
    )
