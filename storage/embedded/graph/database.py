"""The version graph's SQLite file: many readers on snapshots, one writer that commits in groups.

Every write is a job for the writer thread. Jobs that wait at the same moment share one
transaction, hence one sync to disk; each is answered only after that sync (WAL,
synchronous=FULL), and a job that fails takes nothing but its own savepoint with it. The
write-ahead log is folded into the file between groups, where a failing sync is noticed.
"""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from storage.embedded.disk import Health, describe_full_disk
from storage.embedded.sqlite import connect
from storage.errors import Damaged, StorageError

GROUP_SIZE = 64
LOG_PAGES = 1000
"""The write-ahead log is folded into the file when it is longer."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS repository(
  id TEXT PRIMARY KEY, namespace TEXT NOT NULL, default_branch TEXT NOT NULL,
  created_s INTEGER NOT NULL, read_only INTEGER NOT NULL, protection TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repository_metadata(
  repository TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(repository, key)
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
PRAGMA user_version = 2;
"""
SCHEMA_VERSION = 2
"""In version 1 each tree was one index; both kinds are read, only the second is written."""
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)\(")

T = TypeVar("T")
_Job = tuple[Callable[[apsw.Connection], Any], "Future[Any]"]


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
            raise describe_damage(self._path, str(error)) from error
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
            return describe_full_disk()
        if isinstance(error, apsw.IOError):
            return self._health.stop(error)
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            return describe_damage(self._path, str(error))
        return error


def _is_no_room(error: BaseException) -> bool:
    """Whether the file that readers and the writer share could not grow: nothing was written."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE


def check_version(path: Path, connection: apsw.Connection) -> None:
    """Raises: Damaged if this code cannot read a graph of its schema version."""
    version = int(connection.pragma("user_version"))
    if not 0 <= version <= SCHEMA_VERSION:
        raise describe_damage(path, f"schema version {version}")


def describe_damage(path: Path, cause: str) -> StorageError:
    """The refusal of a file that is no sound graph."""
    return Damaged(
        f"{path} is not a sound lake: {cause}",
        remedy="Restore it from a backup, or move it away to start an empty lake.",
    )


def _open(path: Path) -> apsw.Connection:
    """Create or check the file. Raises: Damaged if it is not a sound graph of this version."""
    try:
        connection = connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        connection.execute("PRAGMA journal_mode = WAL")
        verdict = connection.pragma("quick_check", 1)
        check_version(path, connection)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise describe_damage(path, str(error)) from error
    if verdict != "ok":
        raise describe_damage(path, str(verdict))
    # Not at every start: a full disk must not keep a lake from being read.
    if not _is_current(connection):
        connection.execute(f"BEGIN; {SCHEMA} COMMIT;")
    return connection


def _is_current(connection: apsw.Connection) -> bool:
    """Whether the file has this version and each table, also those that came later within it."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
    is_version = int(connection.pragma("user_version")) == SCHEMA_VERSION
    return is_version and tables.issuperset(_TABLE.findall(SCHEMA))
