"""Garbage collection: commits, nodes and bytes that no ref and nothing uncommitted reaches.

Everything that a branch, a tag or a staging area reaches stays, whatever its age. The rest goes
when it is older than the grace: a commit with its tree by its date, bytes by their arrival. In a
running server the order keeps writers safe:

1. condemn: bytes that are old and unreachable on a snapshot, and did not arrive again while
   that was found out; from here on an upload of the same bytes pardons them;
2. judge: in the writer, while no commit or merge is between its snapshot and its publishing,
   what became reachable since is pardoned, and unreachable commits are deleted;
3. sweep: nodes in the writer, a batch at a time, where storing one again pardons it; then the
   bytes that are still condemned.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import apsw

from storage.embedded.bytes.folder_locks import claim_bytes
from storage.embedded.graph.commits import NS
from storage.embedded.graph.version_graph import View
from storage.embedded.lake import EmbeddedLake
from storage.embedded.sqlite import fetch_all
from storage.embedded.upkeep.reach import (
    Named,
    Seen,
    Walk,
    list_all_commits,
    list_ref_commits,
    scan_staged_entries,
)

DEFAULT_GRACE_S = 24 * 3600
BATCH = 2000


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed or, as a dry run, would remove."""

    dry_run: bool
    commits: int
    nodes: int
    objects: int
    octets: int


@dataclass(slots=True)
class _Marked:
    """What must stay, as far as the walks have come, and what is old enough to go."""

    young_ns: int
    seen: Seen = field(default_factory=Seen)
    doomed: dict[bytes, int] = field(default_factory=dict)


def collect(
    lake: EmbeddedLake, *, grace_s: float = DEFAULT_GRACE_S, dry_run: bool = False
) -> Collected:
    """Remove what nothing reaches and what is older than the grace.

    Raises: Damaged, with nothing removed, if the graph cannot be walked; Unavailable while a
    check or a backup needs the bytes.
    """
    with claim_bytes(lake.root):
        marked = _Marked(young_ns=int(max(time.time() - grace_s, 0) * NS))
        marked.doomed = _find_old_blobs(lake, marked.young_ns)
        nodes = lake.read(partial(_mark, marked))
        if dry_run:
            commits = len(lake.read(lambda view: _find_expired(view.rows, marked.seen)))
            gone = marked.doomed
            return Collected(True, commits, len(nodes), len(gone), sum(gone.values()))
        lake.blobs.condemn(marked.doomed)
        lake.blobs.pardon(list(_find_renewed(lake, marked)))
        try:
            return _carry_out(lake, marked, nodes)
        finally:
            lake.blobs.condemn(())
            lake.condemned.clear()


def _carry_out(lake: EmbeddedLake, marked: _Marked, nodes: set[str]) -> Collected:
    with lake.publishing.hold_alone():
        commits = lake.write(partial(_judge, lake, marked, nodes))
    swept = sum(lake.write(partial(_sweep_nodes, batch=batch)) for batch in _batches(sorted(nodes)))
    gone = [size for digest, size in marked.doomed.items() if lake.blobs.remove(digest)]
    return Collected(False, commits, swept, len(gone), sum(gone))


def _find_old_blobs(lake: EmbeddedLake, young_ns: int) -> dict[bytes, int]:
    return {
        digest: found.st_size
        for digest, found in lake.blobs.list_stored()
        if found.st_mtime_ns < young_ns
    }


def _find_renewed(lake: EmbeddedLake, marked: _Marked) -> Iterator[bytes]:
    """Those that arrived again before they were condemned, however late they will be staged."""
    for digest in marked.doomed:
        with suppress(FileNotFoundError):
            if lake.blobs.path(digest.hex()).stat().st_mtime_ns >= marked.young_ns:
                yield digest


def _mark(marked: _Marked, view: View) -> set[str]:
    """Spare what the snapshot reaches; the nodes it does not reach."""
    stored = {row[0] for row in fetch_all(view.rows, "SELECT id FROM node")}
    for digest in _find_reached(marked, view.rows):
        marked.doomed.pop(digest, None)
    return stored - marked.seen.nodes


def _find_reached(marked: _Marked, rows: apsw.Connection) -> Iterator[bytes]:
    """The bytes of everything uncommitted, and of those commits that were not walked yet."""
    walk = Walk(rows, marked.seen)
    for _, commit in walk.commits(
        [*list_ref_commits(rows), *_find_young_commits(rows, marked.young_ns)]
    ):
        yield from (bytes.fromhex(value.digest) for _, value in walk.items(commit.tree))
    yield from (bytes.fromhex(value.digest) for _, _, value in scan_staged_entries(rows))


def _judge(lake: EmbeddedLake, marked: _Marked, nodes: set[str], view: View) -> int:
    """Pardon what became reachable, delete the commits that nothing reaches; how many."""
    # A list first: uploads wait while the set is held.
    lake.blobs.pardon(list(_find_reached(marked, view.rows)))
    lake.blobs.pardon(lake.blobs.list_arriving())
    nodes -= marked.seen.nodes
    view.condemned.update(nodes)
    expired = _find_expired(view.rows, marked.seen)
    view.rows.executemany("DELETE FROM commits WHERE repository = ? AND id = ?", expired)
    view.rows.execute("DELETE FROM part WHERE upload NOT IN (SELECT id FROM upload)")
    return len(expired)


def _sweep_nodes(view: View, *, batch: list[str]) -> int:
    gone = [(node,) for node in batch if node in view.condemned]
    view.rows.executemany("DELETE FROM node WHERE id = ?", gone)
    return len(gone)


def _find_young_commits(rows: apsw.Connection, young_ns: int) -> list[Named]:
    query = "SELECT repository, id FROM commits WHERE json_extract(body, '$.created_ns') >= ?"
    return [(row[0], row[1]) for row in fetch_all(rows, query, young_ns)]


def _find_expired(rows: apsw.Connection, seen: Seen) -> list[Named]:
    return [named for named in list_all_commits(rows) if named not in seen.commits]


def _batches(names: list[str]) -> Iterator[list[str]]:
    left = iter(names)
    while batch := list(islice(left, BATCH)):
        yield batch
