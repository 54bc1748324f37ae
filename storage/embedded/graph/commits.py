"""Commits and the graph they make: their ids, their log, the best common ancestor of two."""

import heapq
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256

import apsw

from storage.embedded.sqlite import fetch_all, fetch_first
from storage.errors import Damaged, NotFound

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoredCommit:
    """One commit. Its id is the SHA-256 of its body, so it can never change."""

    committer: str
    created_ns: int
    generation: int
    message: str
    metadata: dict[str, str]
    parents: tuple[str, ...]
    tree: str

    @property
    def created_s(self) -> int:
        """Unix seconds, as the API shows it."""
        return self.created_ns // NS

    def body(self) -> str:
        """What the id is the hash of."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def id(self) -> str:
        """64 hex digits."""
        return sha256(self.body().encode()).hexdigest()


def now_ns() -> int:
    """The time a new commit gets."""
    return time.time_ns()


def find_commit(connection: apsw.Connection, repository: str, commit: str) -> StoredCommit | None:
    """The commit with this full id, if there is one. Raises: Damaged."""
    row = fetch_first(
        connection,
        "SELECT body FROM commits WHERE repository = ? AND id = ?",
        *(repository, commit),
    )
    if row is None:
        return None
    try:
        fields = json.loads(row[0])
        found = StoredCommit(**{**fields, "parents": tuple(fields["parents"])})
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"commit {commit} cannot be read: {error}") from error
    if found.id != commit:
        raise Damaged(f"commit {commit} is not what was written")
    return found


def get_commit(connection: apsw.Connection, repository: str, commit: str) -> StoredCommit:
    """Raises: NotFound, Damaged."""
    found = find_commit(connection, repository, commit)
    if found is None:
        raise NotFound("commit not found")
    return found


def find_by_prefix(connection: apsw.Connection, repository: str, prefix: str) -> str | None:
    """The one commit whose id starts so. Raises: NotFound if there are several."""
    start = prefix.lower()
    rows = fetch_all(
        connection,
        "SELECT id FROM commits WHERE repository = ? AND id >= ? AND id < ? LIMIT 2",
        *(repository, start, start + "g"),
    )
    if len(rows) > 1:
        raise NotFound("commit not found")
    return rows[0][0] if rows else None


def add_commit(connection: apsw.Connection, repository: str, commit: StoredCommit) -> str:
    """Store it; its id."""
    connection.execute(
        "INSERT OR IGNORE INTO commits VALUES (?, ?, ?)", (repository, commit.id, commit.body())
    )
    return commit.id


def walk_log(
    connection: apsw.Connection,
    repository: str,
    head: str,
    *,
    first_parent: bool = False,
    since_ns: int | None = None,
) -> Iterator[tuple[str, StoredCommit]]:
    """Ancestors of `head`, itself first, newest first by creation time."""
    seen = {head}
    first = get_commit(connection, repository, head)
    waiting = [(-first.created_ns, _negate(head), head, first)]
    while waiting:
        *_, commit_id, commit = heapq.heappop(waiting)
        if since_ns is not None and commit.created_ns < since_ns:
            continue
        yield commit_id, commit
        for parent in commit.parents[:1] if first_parent else commit.parents:
            if parent not in seen:
                seen.add(parent)
                found = get_commit(connection, repository, parent)
                heapq.heappush(waiting, (-found.created_ns, _negate(parent), parent, found))


def find_merge_base(
    connection: apsw.Connection, repository: str, one: str, other: str
) -> str | None:
    """The best common ancestor, found from the highest generation down, as lakeFS does."""
    if one == other:
        return one
    reached = {one: 1, other: 2}
    waiting = [_order_by_generation(connection, repository, commit) for commit in (one, other)]
    heapq.heapify(waiting)
    while waiting:
        *_, commit_id, parents = heapq.heappop(waiting)
        for parent in parents:
            if parent not in reached:
                heapq.heappush(waiting, _order_by_generation(connection, repository, parent))
            reached[parent] = reached.get(parent, 0) | reached[commit_id]
            if reached[parent] == 3:
                return parent
    return None


def _order_by_generation(
    connection: apsw.Connection, repository: str, commit: str
) -> tuple[int, int, str, tuple[str, ...]]:
    found = get_commit(connection, repository, commit)
    return -found.generation, -found.created_ns, commit, found.parents


def _negate(commit: str) -> int:
    return -int(commit, 16)
