"""Trees of entries: look up, walk, edit. A tree is named by the id of its root node."""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from storage.embedded.graph.ranges import (
    EMPTY,
    GroupIndex,
    ObjectEntry,
    Range,
    RangeRef,
    Root,
    cut,
    cut_groups,
    decode_index,
    decode_range,
    decode_root,
    encode_index,
    encode_range,
    encode_root,
    ends_group,
    ends_range,
    make_root,
)

T = TypeVar("T")
Item = tuple[str, ObjectEntry]
Edit = tuple[str, ObjectEntry | None]
"""A key and its new entry, or None to remove it."""


class Cache(Generic[T]):
    """The most recently used decoded nodes; safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._held: OrderedDict[str, T] = OrderedDict()

    def get(self, node: str, make: Callable[[], T]) -> T:
        """The node, made and kept if it is not here."""
        with self._lock:
            if node in self._held:
                self._held.move_to_end(node)
                return self._held[node]
        value = make()
        with self._lock:
            self._held[node] = value
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class Caches:
    """Decoded nodes by kind. A range weighs far more than an index, and an index than a root."""

    roots: Cache[Root]
    indexes: Cache[GroupIndex]
    ranges: Cache[Range]


class Nodes:
    """Reads nodes through the caches, and keeps those made here until they are stored."""

    def __init__(self, load: Callable[[str], bytes], caches: Caches) -> None:
        self._load, self._caches = load, caches
        self.made: dict[str, bytes] = {}

    def root(self, tree: str) -> Root:
        """The root of this tree."""
        if not tree:
            return EMPTY
        return self._caches.roots.get(tree, lambda: decode_root(tree, self._body(tree)))

    def index(self, node: str) -> GroupIndex:
        """The group with this id."""
        return self._caches.indexes.get(node, lambda: decode_index(node, self._body(node)))

    def range(self, node: str) -> Range:
        """The range with this id."""
        return self._caches.ranges.get(node, lambda: decode_range(node, self._body(node)))

    def keep_range(self, value: Range) -> RangeRef:
        """Remember a new range for storing."""
        # Not cached: the stored one of this name may carry other modification times.
        self.made[value.id] = encode_range(value)
        return RangeRef(value.id, value.keys[0], value.keys[-1])

    def keep_index(self, value: GroupIndex) -> RangeRef:
        """Remember a new group for storing."""
        self.made[value.id] = encode_index(value)
        self._caches.indexes.get(value.id, lambda: value)
        return RangeRef(value.id, value.ranges[0].first, value.ranges[-1].last)

    def keep_root(self, value: Root) -> str:
        """Remember a new tree for storing; its id."""
        if len(value.groups) > 1:
            self.made[value.id] = encode_root(value)
            self._caches.roots.get(value.id, lambda: value)
        return value.id

    def _body(self, node: str) -> bytes:
        return self.made.get(node) or self._load(node)


def get(nodes: Nodes, tree: str, key: str) -> ObjectEntry | None:
    """The entry at `key`, if there is one."""
    group = _find_covering(nodes.root(tree).groups, key)
    ref = _find_covering(nodes.index(group.id).ranges, key) if group else None
    if ref is None:
        return None
    found = nodes.range(ref.id)
    at = bisect_left(found.keys, key)
    return found.entries[at] if at < len(found.keys) and found.keys[at] == key else None


def scan(nodes: Nodes, tree: str, start: str = "") -> Iterator[Item]:
    """Keys from `start` on, in byte order, with their entries."""
    return scan_groups(nodes, nodes.root(tree).groups, start)


def scan_groups(nodes: Nodes, groups: Sequence[RangeRef], start: str = "") -> Iterator[Item]:
    """The same over some of a tree's groups."""
    for group in groups[bisect_left(groups, start, key=_get_last) :]:
        yield from scan_ranges(nodes, nodes.index(group.id).ranges, start)


def scan_ranges(nodes: Nodes, ranges: Sequence[RangeRef], start: str = "") -> Iterator[Item]:
    """The same over some of a tree's ranges."""
    for ref in ranges[bisect_left(ranges, start, key=_get_last) :]:
        opened = nodes.range(ref.id)
        at = bisect_left(opened.keys, start)
        yield from zip(opened.keys[at:], opened.entries[at:], strict=True)


def scan_differing(nodes: Nodes, tree: str, other: str) -> Iterator[RangeRef]:
    """The ranges of `tree`, in key order, that may hold what `other` does not.

    Only groups that the two trees do not share are opened.
    """
    groups, others = nodes.root(tree).groups, nodes.root(other).groups
    ids, other_ids = {ref.id for ref in groups}, {ref.id for ref in others}
    known = {
        ref.id for group in others if group.id not in ids for ref in nodes.index(group.id).ranges
    }
    for group in groups:
        if group.id not in other_ids:
            yield from (ref for ref in nodes.index(group.id).ranges if ref.id not in known)


def is_same_tree(nodes: Nodes, tree: str, other: str) -> bool:
    """Whether the two hold the same entries; only trees from before groups need a look."""
    if tree == other:
        return True
    differ = (*scan_differing(nodes, tree, other), *scan_differing(nodes, other, tree))
    return not differ


def edit_tree(nodes: Nodes, tree: str, edits: Sequence[Edit]) -> str:
    """The tree with sorted `edits` applied; only what they touch is read and made.

    An edit that brings the identity that is already there changes nothing, not even the
    modification time.
    """
    old = nodes.root(tree).groups
    new: list[RangeRef] = []
    ranges: list[RangeRef] = []
    spill: list[Item] = []
    at = 0
    for place in range(max(len(old), 1)):
        is_last = place >= len(old) - 1
        upto = len(edits) if is_last else bisect_right(edits, old[place].last, lo=at, key=_get_key)
        if at == upto and old and not (ranges or spill):
            new.append(old[place])
            continue
        held = nodes.index(old[place].id).ranges if old else ()
        changed, spill = _edit_ranges(nodes, held, edits[at:upto], spill, is_last=is_last)
        ranges.extend(changed)
        groups = list(cut_groups(ranges))
        ranges = _pop_unfinished(groups) if not is_last else []
        new.extend(nodes.keep_index(group) for group in groups)
        at = upto
    return nodes.keep_root(make_root(new))


def _edit_ranges(
    nodes: Nodes,
    old: Sequence[RangeRef],
    edits: Sequence[Edit],
    spill: list[Item],
    *,
    is_last: bool,
) -> tuple[list[RangeRef], list[Item]]:
    """The ranges of one group with `spill` before them and `edits` applied, and what spills over.

    Entries behind the last cut belong to the range that follows, in the next group if need be.
    """
    new: list[RangeRef] = []
    at = done = 0
    while at < len(edits) or spill:
        place = done if spill else _find_place(old, edits[at][0])
        new.extend(old[done:place])
        upto = _count_edits(edits, at, old[place : len(old) - 1])
        held = [*spill, *scan_ranges(nodes, old[place : place + 1])]
        made = list(cut(_apply_edits(held, edits[at:upto])))
        at, done = upto, min(place + 1, len(old))
        at_end = done == len(old)
        spill = [] if at_end and is_last else _pop_spill(made)
        new.extend(nodes.keep_range(value) for value in made)
        if at_end:
            break
    new.extend(old[done:])
    return new, spill


def find_key_behind(prefix: str) -> str | None:
    """The first key after all keys that start with `prefix`; None if no key comes after them."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following <= 0x10FFFF:
            # The surrogates are no characters of a valid key.
            return prefix[:at] + chr(0xE000 if following == 0xD800 else following)
    return None


def _find_covering(refs: Sequence[RangeRef], key: str) -> RangeRef | None:
    """The one that may hold `key`, if any does."""
    place = bisect_left(refs, key, key=_get_last)
    return refs[place] if place < len(refs) and refs[place].first <= key else None


def _get_last(ref: RangeRef) -> str:
    return ref.last


def _find_place(ranges: Sequence[RangeRef], key: str) -> int:
    """Which range `key` belongs to: the first that ends at or after it, else the last."""
    return min(bisect_left(ranges, key, key=_get_last), max(len(ranges) - 1, 0))


def _count_edits(edits: Sequence[Edit], at: int, bounded: Sequence[RangeRef]) -> int:
    """How many edits fall into the first of `bounded`; all of them into a tree's last range."""
    return bisect_right(edits, bounded[0].last, lo=at, key=_get_key) if bounded else len(edits)


def _get_key(item: Edit) -> str:
    return item[0]


def _apply_edits(held: Sequence[Item], edits: Sequence[Edit]) -> Iterator[Item]:
    merged: dict[str, ObjectEntry] = dict(held)
    for key, value in edits:
        before = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif before is None or before.identity != value.identity:
            merged[key] = value
    yield from sorted(merged.items())


def _pop_unfinished(groups: list[GroupIndex]) -> list[RangeRef]:
    """Take back the ranges after the last cut: they belong to the group that follows."""
    if not groups or ends_group(groups[-1].ranges[-1].last):
        return []
    return list(groups.pop().ranges)


def _pop_spill(made: list[Range]) -> list[Item]:
    """Take back the entries after the last cut: they belong to the range that follows."""
    if not made or ends_range(made[-1].keys[-1]):
        return []
    tail = made.pop()
    return list(zip(tail.keys, tail.entries, strict=True))
