"""Who has what is damaged: the paths and commits that a bad object or node takes along."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import apsw

from storage.embedded.upkeep.reach import Named, Walk, scan_staged_entries


@dataclass(slots=True)
class Holding:
    """Who has a damaged thing: paths as `repository/key`, commits as `repository@commit`."""

    paths: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    def add(self, repository: str, key: str, commit: str) -> None:
        """One more holder; an empty key or commit is none."""
        path = f"{repository}/{key}"
        if key and path not in self.paths:
            self.paths.append(path)
        if commit:
            self.commits.append(f"{repository}@{commit}")


def find_holders(
    rows: apsw.Connection, trees: Iterable[tuple[Named, str]], bad: set[str]
) -> dict[str, Holding]:
    """For each bad object or node who has it, among these commits' trees and what is staged."""
    named = {name: Holding() for name in bad}
    if not bad:
        return named
    holders = _Holders(rows, bad)
    for (repository, commit), tree in trees:
        for name, key in holders.of_tree(tree).items():
            named[name].add(repository, key, commit)
    for repository, key, value in scan_staged_entries(rows):
        if value.digest in bad:
            named[value.digest].add(repository, f"{key} (uncommitted)", "")
    return named


class _Holders:
    """Which bad objects and nodes a tree has, each with a key; shared nodes are opened once."""

    def __init__(self, rows: apsw.Connection, bad: set[str]) -> None:
        self._nodes, self._bad = Walk(rows).nodes, bad
        self._known: dict[str, dict[str, str]] = {}

    def of_tree(self, tree: str) -> dict[str, str]:
        """Bad names below `tree`, with a key where there is one."""
        if not tree or tree in self._bad:
            return {tree: ""} if tree else {}
        found: dict[str, str] = {}
        for group in self._nodes.root(tree).groups:
            found |= self._of(group.id, self._in_group)
        return found

    def _of(self, node: str, look: Callable[[str], dict[str, str]]) -> dict[str, str]:
        if node not in self._known:
            self._known[node] = {node: ""} if node in self._bad else look(node)
        return self._known[node]

    def _in_group(self, node: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for ref in self._nodes.index(node).ranges:
            found |= self._of(ref.id, self._in_range)
        return found

    def _in_range(self, node: str) -> dict[str, str]:
        held = self._nodes.range(node)
        pairs = zip(held.keys, held.entries, strict=True)
        return {value.digest: key for key, value in pairs if value.digest in self._bad}
