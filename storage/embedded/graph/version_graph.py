"""The version graph as the rest of the lake uses it: snapshots to read, one writer.

Heads of branches change one at a time on each branch, and hold `publishing` from their snapshot
to their last write: a collection waits for them before it judges what is reachable.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from storage.embedded.disk import Health
from storage.embedded.graph.database import Database
from storage.embedded.graph.tree import Cache, Caches, Nodes
from storage.embedded.sqlite import fetch_first
from storage.errors import Damaged

CACHED_ROOTS = 64
CACHED_INDEXES = 512
CACHED_RANGES = 768

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """The graph at one moment: its rows, and its nodes through the caches."""

    rows: apsw.Connection
    nodes: Nodes
    condemned: set[str]
    """Nodes that a collection is about to delete; storing one of them again saves it."""


class VersionGraph:
    """The graph in the file at `path`. Raises: Damaged if it is not sound."""

    def __init__(self, path: Path, health: Health) -> None:
        self._database = Database(path, health)
        self._caches = Caches(Cache(CACHED_ROOTS), Cache(CACHED_INDEXES), Cache(CACHED_RANGES))
        self.condemned: set[str] = set()
        self.publishing = SharedLock()
        self._turns: dict[tuple[str, str], threading.Lock] = {}
        self._turns_lock = threading.Lock()

    def read(self, work: Callable[[View], T]) -> T:
        """What `work` returns on one consistent snapshot."""
        with self._database.read() as rows:
            return work(self._open_view(rows))

    def write(self, work: Callable[[View], T]) -> T:
        """What `work` returns once its changes are durable; none are kept if it raises."""
        return self.submit(work).result()

    def submit(self, work: Callable[[View], T]) -> "Future[T]":
        """The same without waiting for it."""
        return self._database.write(lambda rows: work(self._open_view(rows)))

    @contextmanager
    def turn(self, repository: str, branch: str) -> Iterator[None]:
        """One head change at a time on a branch, so that none computes in vain."""
        with self._turns_lock:
            lock = self._turns.setdefault((repository, branch), threading.Lock())
        with lock:
            yield

    def close(self) -> None:
        """Finish what was queued."""
        self._database.close()

    def _open_view(self, rows: apsw.Connection) -> View:
        return View(rows, Nodes(partial(load_node, rows), self._caches), self.condemned)


class SharedLock:
    """Many share it at once; who holds it alone waits until they are through."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing, self._is_alone = 0, False

    @contextmanager
    def share(self) -> Iterator[None]:
        """Hold it with others, once nobody holds it alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def hold_alone(self) -> Iterator[None]:
        """Hold it when nobody else does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone)
            self._is_alone = True
            self._changed.wait_for(lambda: not self._sharing)
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()


def store_nodes(view: View, made: Mapping[str, bytes]) -> None:
    """Add nodes that were made against an earlier snapshot."""
    view.condemned.difference_update(made)
    view.rows.executemany("INSERT OR IGNORE INTO node VALUES (?, ?)", made.items())


def load_node(rows: apsw.Connection, node: str) -> bytes:
    """The stored form of a node. Raises: Damaged if it is missing."""
    found = fetch_first(rows, "SELECT body FROM node WHERE id = ?", node)
    if found is None:
        raise Damaged(f"node {node} is missing from the graph")
    return bytes(found[0])
