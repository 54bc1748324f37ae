"""The lake: one folder with the graph, the blobs and the parts of unfinished uploads."""

import fcntl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from storage.embedded.blobs import Blobs
from storage.embedded.database import Database, Health, row_of
from storage.embedded.ranges import Index, Range
from storage.embedded.tree import Cache, Nodes
from storage.errors import Damaged, Unavailable

CACHED_INDEXES = 64
CACHED_RANGES = 192

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """The graph at one moment: its rows, and its nodes through the caches."""

    rows: apsw.Connection
    nodes: Nodes


class Lake:
    """Opens `root`, which it holds alone until `close`.

    Raises: Unavailable if another process holds it, Damaged if the graph is not sound, OSError
    if the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._lock = _hold(root)
        self.health = Health()
        self.blobs = Blobs(root, self.health)
        self._database = Database(root / "graph.sqlite", self.health)
        self._indexes: Cache[Index] = Cache(CACHED_INDEXES)
        self._ranges: Cache[Range] = Cache(CACHED_RANGES)
        self._turns: dict[tuple[str, str], threading.Lock] = {}
        self._turns_lock = threading.Lock()

    def read(self, work: Callable[[View], T]) -> T:
        """What `work` returns on one consistent snapshot."""
        with self._database.read() as rows:
            return work(self._view(rows))

    def write(self, work: Callable[[View], T]) -> T:
        """What `work` returns once its changes are durable; none are kept if it raises."""
        return self.submit(work).result()

    def submit(self, work: Callable[[View], T]) -> "Future[T]":
        """The same without waiting for it."""
        return self._database.write(lambda rows: work(self._view(rows)))

    @contextmanager
    def turn(self, repository: str, branch: str) -> Iterator[None]:
        """One head change at a time on a branch, so that none computes in vain."""
        with self._turns_lock:
            lock = self._turns.setdefault((repository, branch), threading.Lock())
        with lock:
            yield

    def close(self) -> None:
        """Finish what was queued and let go of the folder."""
        self._database.close()
        self._lock.close()

    def _view(self, rows: apsw.Connection) -> View:
        return View(rows, Nodes(lambda node: _load(rows, node), self._indexes, self._ranges))


def store_nodes(rows: apsw.Connection, made: Mapping[str, bytes]) -> None:
    """Add nodes that were made against an earlier snapshot."""
    rows.executemany("INSERT OR IGNORE INTO node VALUES (?, ?)", made.items())


def _load(rows: apsw.Connection, node: str) -> bytes:
    found = row_of(rows, "SELECT body FROM node WHERE id = ?", node)
    if found is None:
        raise Damaged(f"node {node} is missing from the graph")
    return bytes(found[0])


class _Held:
    """An exclusive lock on the folder; the kernel drops it when the process ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._file.close()


def _hold(root: Path) -> _Held:
    held = _Held(root / "lock")
    if not held.take():
        held.close()
        raise Unavailable(
            f"another process is serving {root}", remedy="Stop it, or choose another --root."
        )
    return held
