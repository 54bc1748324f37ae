"""The lake: one folder with the graph, the blobs and the parts of unfinished uploads."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from storage.embedded.bytes.blobs import Blobs, sync_folder
from storage.embedded.bytes.folder_locks import hold
from storage.embedded.graph.database import Database, Health, check_sqlite, row_of
from storage.embedded.graph.tree import Cache, Caches, Nodes
from storage.errors import Damaged

GRAPH = "graph.sqlite"
SUSPECT = "suspect"
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


class Lake:
    """Opens `root`, which it holds alone until `close`.

    Raises: Unavailable if another process holds it, Damaged if the graph is not sound, OSError
    if the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        check_sqlite()
        make_durable_folder(root)
        self.root = root
        self._lock = hold(root)
        self.health = Health(root / SUSPECT)
        try:
            self.blobs = Blobs(root, self.health)
            self._database = Database(root / GRAPH, self.health)
        except BaseException:
            self._lock.close()
            raise
        self._caches = Caches(Cache(CACHED_ROOTS), Cache(CACHED_INDEXES), Cache(CACHED_RANGES))
        self.condemned: set[str] = set()
        self.publishing = Gate()
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
        return View(rows, Nodes(partial(load_node, rows), self._caches), self.condemned)


class Gate:
    """Many may pass at once; one that closes it waits until they are through."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._is_closed = 0, False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait while it is closed, then hold it open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let nobody pass."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = False
                self._changed.notify_all()


def store_nodes(view: View, made: Mapping[str, bytes]) -> None:
    """Add nodes that were made against an earlier snapshot."""
    view.condemned.difference_update(made)
    view.rows.executemany("INSERT OR IGNORE INTO node VALUES (?, ?)", made.items())


def make_durable_folder(path: Path) -> None:
    """Make a folder, with those above it, whose names a power cut does not take away."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # The nearest always: whoever made it may not have lived to sync it.
    for folder in {path, *missing}:
        sync_folder(folder.parent)


def load_node(rows: apsw.Connection, node: str) -> bytes:
    """The stored form of a node. Raises: Damaged if it is missing."""
    found = row_of(rows, "SELECT body FROM node WHERE id = ?", node)
    if found is None:
        raise Damaged(f"node {node} is missing from the graph")
    return bytes(found[0])
