"""What differs between two trees, and what a merge of three would do.

A key lies in one range on each side, and a range that both sides share cannot differ, so only
the ranges that one side lacks are opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from storage.embedded.errors import MergeConflict
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.graph.tree import (
    Edit,
    Item,
    Nodes,
    get,
    scan_differing,
    scan_ranges,
)


class Kind(Enum):
    """How lakeFS names a difference."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class KeyDifference:
    """One key whose identity differs; `before` or `after` is None where the key is absent."""

    key: str
    before: ObjectEntry | None
    after: ObjectEntry | None
    kind: Kind


def make_difference(
    key: str, before: ObjectEntry | None, after: ObjectEntry | None
) -> KeyDifference:
    """The difference between two entries that are known to differ."""
    kind = Kind.ADDED if before is None else Kind.REMOVED if after is None else Kind.CHANGED
    return KeyDifference(key, before, after, kind)


def is_same(one: ObjectEntry | None, other: ObjectEntry | None) -> bool:
    """Whether a merge sees no difference between these."""
    return (one and one.identity) == (other and other.identity)


def diff(nodes: Nodes, left: str, right: str, start: str = "") -> Iterator[KeyDifference]:
    """What changes from `left` to `right`, in key order, from `start` on."""
    only_left, only_right = (
        list(scan_differing(nodes, left, right)),
        list(scan_differing(nodes, right, left)),
    )
    before, after = scan_ranges(nodes, only_left, start), scan_ranges(nodes, only_right, start)
    for key, old, new in pair_up(before, after):
        if not is_same(old, new):
            yield make_difference(key, old, new)


def compare(
    nodes: Nodes, base: str, source: str, target: str, start: str = ""
) -> Iterator[KeyDifference]:
    """What merging `source` into `target` would change there, conflicts named as such."""
    for found in diff(nodes, target, source, start):
        origin = get(nodes, base, found.key)
        if is_same(origin, found.before):
            yield found
        elif not is_same(origin, found.after):
            yield KeyDifference(found.key, found.before, found.after, Kind.CONFLICT)


def plan_merge(
    nodes: Nodes, base: str, source: str, target: str, strategy: str | None
) -> list[Edit]:
    """The edits that bring `source`'s changes since `base` into `target`.

    Raises: MergeConflict at the first key that both sides changed, unless `strategy` is
    `source-wins` or `dest-wins`.
    """
    edits: list[Edit] = []
    for found in compare(nodes, base, source, target):
        if found.kind is Kind.CONFLICT and strategy is None:
            raise MergeConflict("conflict found")
        if found.kind is not Kind.CONFLICT or strategy == "source-wins":
            edits.append((found.key, found.after))
    return edits


def pair_up(
    left: Iterator[Item], right: Iterator[Item]
) -> Iterator[tuple[str, ObjectEntry | None, ObjectEntry | None]]:
    """Both sorted streams side by side, by key."""
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        key = min(item[0] for item in (one, two) if item is not None)
        old = one[1] if one is not None and one[0] == key else None
        new = two[1] if two is not None and two[0] == key else None
        yield key, old, new
        if old is not None:
            one = next(left, None)
        if new is not None:
            two = next(right, None)
