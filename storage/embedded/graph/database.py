"""The version graph's SQLite file: many readers on snapshots, one writer that commits in groups.

Every write is a job for the writer thread. Jobs that wait at the same moment share one
transaction, hence one sync to disk; each is answered only after that sync (WAL,
synchronous=FULL), and a job that fails takes nothing but its own savepoint with it. The
write-ahead log is folded into the file between groups, where a failing sync is noticed.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

from storage.embedded.errors import DiskFull, WritesStopped
from storage.embedded.graph.schema import SCHEMA, SCHEMA_VERSION, is_current
from storage.errors import Damaged, StorageError, Unavailable

GROUP_SIZE = 64
BUSY_MS = 10_000
LOG_PAGES = 1000
"""The write-ahead log is folded into the file when it is longer."""
SOUND_SQLITE = (3, 51, 3)
"""Earlier versions can corrupt the file when the write-ahead log is reset."""


logger = logging.getLogger("storage.embedded")
T = TypeVar("T")
Value = str | bytes | int | None
_Job = tuple[Callable[[apsw.Connection], Any], "Future[Any]"]


@dataclass
class Health:
    """Whether this process may still promise durability; one failed sync ends that for good.

    `suspect` is the file that makes the next start check every byte before it serves.
    """

    suspect: Path
    stopped_by: str = ""

    def stop(self, cause: BaseException) -> WritesStopped:
        """Refuse every later write: after a failed sync the kernel may have dropped the pages."""
        if not self.stopped_by:
            self.stopped_by = str(cause)
            logger.error("the lake is read-only from now on: %s", cause)
            with suppress(OSError):
                self.suspect.write_text(f"{cause}\n")
        return self.refusal()

    def refusal(self) -> WritesStopped:
        """The error that every write gets from now on."""
        return WritesStopped(
            f"the lake is read-only because the disk failed to sync: {self.stopped_by}",
            remedy="Check the disk, then restart the lake: it checks itself before it serves.",
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
        self._log_pages = 0
        self._writer = _open(path)
        self._writer.set_wal_hook(self._note_log)
        self._thread = threading.Thread(target=self._work, name="lake-writer", daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection on one consistent snapshot."""
        connection = self._borrow()
        connection.execute("BEGIN")
        try:
            yield connection
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise damaged_graph(self._path, str(error)) from error
        finally:
            connection.execute("ROLLBACK")
            with self._idle_lock:
                self._idle.append(connection)

    def write(self, job: Callable[[apsw.Connection], T]) -> "Future[T]":
        """What `job` returns, once its changes are durable; its changes are undone if it raises."""
        self._health.check()
        done: Future[T] = Future()
        # Not to be cancelled from here on: the writer answers every job.
        done.set_running_or_notify_cancel()
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
        return connect(self._path)

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
            if self._log_pages >= LOG_PAGES:
                self._fold_log()

    def _note_log(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _fold_log(self) -> None:
        """SQLite's own checkpoint would hide that the file could not be synced."""
        self._log_pages = 0
        try:
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.FullError, apsw.BusyError, apsw.LockedError):
            return  # the log stays and is folded next time
        except apsw.Error as error:
            self._translate(error)

    def _commit(self, group: list[_Job]) -> None:
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job, done in group:
                outcomes.append((done, *self._attempt(job)))
            # Once more: a sync may have failed since these jobs were taken.
            self._health.check()
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
        if isinstance(error, apsw.FullError) or _is_no_room(error):
            return disk_full()
        if isinstance(error, apsw.IOError):
            return self._health.stop(error)
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            return damaged_graph(self._path, str(error))
        return error


def _is_no_room(error: BaseException) -> bool:
    """Whether the file that readers and the writer share could not grow: nothing was written."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE


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


def connect(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> apsw.Connection:
    """A connection whose commits are on disk when they return. Raises: apsw.Error."""
    connection = apsw.Connection(str(path), flags=flags)
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def check_version(path: Path, connection: apsw.Connection) -> None:
    """Raises: Damaged if this code cannot read a graph of its schema version."""
    version = int(connection.pragma("user_version"))
    if not 0 <= version <= SCHEMA_VERSION:
        raise damaged_graph(path, f"schema version {version}")


def damaged_graph(path: Path, cause: str) -> StorageError:
    """The refusal of a file that is no sound graph."""
    return Damaged(
        f"{path} is not a sound lake: {cause}",
        remedy="Restore it from a backup, or move it away to start an empty lake.",
    )


def check_sqlite(version: str = apsw.sqlite_lib_version()) -> None:
    """Raises: Unavailable if this SQLite can lose what it acknowledged."""
    if tuple(int(part) for part in version.split(".")) < SOUND_SQLITE:
        needed = ".".join(str(part) for part in SOUND_SQLITE)
        raise Unavailable(
            f"SQLite {version} can corrupt the lake; {needed} or newer is needed",
            remedy=f"Install the locked requirements: apsw {needed} or newer brings its own.",
        )


def _open(path: Path) -> apsw.Connection:
    """Create or check the file. Raises: Damaged if it is not a sound graph of this version."""
    try:
        connection = connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        connection.execute("PRAGMA journal_mode = WAL")
        verdict = connection.pragma("quick_check", 1)
        check_version(path, connection)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise damaged_graph(path, str(error)) from error
    if verdict != "ok":
        raise damaged_graph(path, str(verdict))
    # Not at every start: a full disk must not keep a lake from being read.
    if not is_current(connection):
        connection.execute(f"BEGIN; {SCHEMA} COMMIT;")
    return connection
