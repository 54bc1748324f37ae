"""What is reachable: commits from refs, nodes from commits, bytes from nodes and staged rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import apsw

from storage.embedded.graph.commits import StoredCommit, find_commit
from storage.embedded.graph.ranges import ObjectEntry, decode_entry
from storage.embedded.graph.tree import Cache, Caches, Item, Nodes
from storage.embedded.graph.version_graph import load_node
from storage.embedded.sqlite import fetch_all
from storage.errors import Damaged

Named = tuple[str, str]
"""A repository and the id of one of its commits."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag and the commit it names."""

    repository: str
    name: str
    commit: str


@dataclass(slots=True)
class Seen:
    """What walks have met; a walk that goes on with it yields only what is new."""

    commits: set[Named] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)


def stop(_: str, error: Damaged) -> None:
    """What a walk does about damage unless it is told to note it and go on."""
    raise error


class Walk:
    """Walks the graph of one snapshot without disturbing the caches.

    `lost` is told of each commit or node that cannot be read; the walk goes on if it returns.
    """

    def __init__(
        self,
        rows: apsw.Connection,
        seen: Seen | None = None,
        lost: Callable[[str, Damaged], None] = stop,
    ) -> None:
        self.rows, self.seen, self._lost = rows, seen or Seen(), lost
        self.nodes = Nodes(partial(load_node, rows), Caches(Cache(2), Cache(2), Cache(1)))

    def commits(self, starts: Iterable[Named]) -> Iterator[tuple[Named, StoredCommit]]:
        """The commits of `starts` and all before them."""
        waiting = list(starts)
        while waiting:
            named = waiting.pop()
            if named in self.seen.commits:
                continue
            self.seen.commits.add(named)
            if (found := self._read_commit(named)) is not None:
                yield named, found
                waiting.extend((named[0], parent) for parent in found.parents)

    def items(self, tree: str) -> Iterator[Item]:
        """Keys and entries of those ranges of a tree that were not met before."""
        if not tree or tree in self.seen.nodes:
            return
        try:
            groups = self.nodes.root(tree).groups
        except Damaged as error:
            self.seen.nodes.add(tree)
            self._lost(tree, error)
            return
        for group in groups:
            if self._is_new(group.id):
                yield from self._group(group.id)
        self.seen.nodes.add(tree)

    def _group(self, node: str) -> Iterator[Item]:
        try:
            ranges = self.nodes.index(node).ranges
        except Damaged as error:
            self._lost(node, error)
            return
        for ref in ranges:
            if self._is_new(ref.id):
                yield from self._range(ref.id)

    def _range(self, node: str) -> Iterator[Item]:
        try:
            found = self.nodes.range(node)
        except Damaged as error:
            self._lost(node, error)
            return
        yield from zip(found.keys, found.entries, strict=True)

    def _read_commit(self, named: Named) -> StoredCommit | None:
        repository, commit = named
        try:
            found = find_commit(self.rows, repository, commit)
            if found is None:
                raise Damaged(f"commit {commit} of {repository} is missing from the graph")
        except Damaged as error:
            self._lost(commit, error)
            return None
        return found

    def _is_new(self, node: str) -> bool:
        if node in self.seen.nodes:
            return False
        self.seen.nodes.add(node)
        return True


def list_refs(rows: apsw.Connection) -> list[Ref]:
    """Every branch and tag."""
    found = fetch_all(
        rows,
        "SELECT repository, name, head FROM branch"
        " UNION ALL SELECT repository, name, target FROM tag",
    )
    return [Ref(*row) for row in found]


def list_ref_commits(rows: apsw.Connection) -> list[Named]:
    """The commits that branches and tags name."""
    return [(ref.repository, ref.commit) for ref in list_refs(rows)]


def list_all_commits(rows: apsw.Connection) -> list[Named]:
    """Every commit that is stored, reachable or not."""
    return [(row[0], row[1]) for row in fetch_all(rows, "SELECT repository, id FROM commits")]


def scan_staged_entries(rows: apsw.Connection) -> Iterator[tuple[str, str, ObjectEntry]]:
    """Repository, key and entry of everything uncommitted."""
    query = (
        "SELECT branch.repository, staged.key, staged.entry FROM staged"
        " JOIN branch ON branch.staging = staged.area WHERE staged.entry IS NOT NULL"
    )
    for repository, key, text in rows.execute(query):
        yield repository, key, decode_entry(text)
