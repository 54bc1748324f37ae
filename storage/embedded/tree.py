"""Trees of entries: look up, walk, edit. A tree is named by the id of its index node."""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from storage.embedded.ranges import (
    EMPTY,
    Entry,
    Index,
    Range,
    RangeRef,
    cut,
    decode_index,
    decode_range,
    encode_index,
    encode_range,
    ends_range,
    index_of,
)

T = TypeVar("T")
Item = tuple[str, Entry]
Edit = tuple[str, Entry | None]
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


class Nodes:
    """Reads nodes through the caches, and keeps those made here until they are stored."""

    def __init__(
        self, load: Callable[[str], bytes], indexes: Cache[Index], ranges: Cache[Range]
    ) -> None:
        self._load, self._indexes, self._ranges = load, indexes, ranges
        self.made: dict[str, bytes] = {}

    def index(self, node: str) -> Index:
        """The index with this id."""
        if not node:
            return EMPTY
        return self._indexes.get(node, lambda: decode_index(node, self._body(node)))

    def range(self, node: str) -> Range:
        """The range with this id."""
        return self._ranges.get(node, lambda: decode_range(node, self._body(node)))

    def keep_range(self, value: Range) -> RangeRef:
        """Remember a new range for storing."""
        # Not cached: the stored one of this name may carry other modification times.
        self.made[value.id] = encode_range(value)
        return RangeRef(value.id, value.keys[0], value.keys[-1])

    def keep_index(self, value: Index) -> str:
        """Remember a new index for storing; its id."""
        if value.id:
            self.made[value.id] = encode_index(value)
            self._indexes.get(value.id, lambda: value)
        return value.id

    def _body(self, node: str) -> bytes:
        return self.made.get(node) or self._load(node)


def get(nodes: Nodes, tree: str, key: str) -> Entry | None:
    """The entry at `key`, if there is one."""
    ranges = nodes.index(tree).ranges
    place = bisect_left(ranges, key, key=_last)
    if place == len(ranges) or ranges[place].first > key:
        return None
    found = nodes.range(ranges[place].id)
    at = bisect_left(found.keys, key)
    return found.entries[at] if at < len(found.keys) and found.keys[at] == key else None


def scan(nodes: Nodes, tree: str, start: str = "") -> Iterator[Item]:
    """Keys from `start` on, in byte order, with their entries."""
    return scan_ranges(nodes, nodes.index(tree).ranges, start)


def scan_ranges(nodes: Nodes, ranges: Sequence[RangeRef], start: str = "") -> Iterator[Item]:
    """The same over some of a tree's ranges."""
    for ref in ranges[bisect_left(ranges, start, key=_last) :]:
        opened = nodes.range(ref.id)
        at = bisect_left(opened.keys, start)
        yield from zip(opened.keys[at:], opened.entries[at:], strict=True)


def edit(nodes: Nodes, tree: str, edits: Sequence[Edit]) -> str:
    """The tree with sorted `edits` applied; only the ranges they touch are read and made.

    An edit that brings the identity that is already there changes nothing, not even the
    modification time.
    """
    old = nodes.index(tree).ranges
    new: list[RangeRef] = []
    spill: list[Item] = []
    at = done = 0
    while at < len(edits) or spill:
        place = done if spill else _place(old, edits[at][0])
        new.extend(old[done:place])
        upto = _upto(edits, at, old[place : len(old) - 1])
        held = [*spill, *scan_ranges(nodes, old[place : place + 1])]
        made = list(cut(_applied(held, edits[at:upto])))
        at, done = upto, min(place + 1, len(old))
        spill = _pop_spill(made) if done < len(old) else []
        new.extend(nodes.keep_range(value) for value in made)
    new.extend(old[done:])
    return nodes.keep_index(index_of(new))


def past_prefix(prefix: str) -> str | None:
    """The first key after all keys that start with `prefix`; None if no key comes after them."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following <= 0x10FFFF:
            # The surrogates are no characters of a valid key.
            return prefix[:at] + chr(0xE000 if following == 0xD800 else following)
    return None


def _last(ref: RangeRef) -> str:
    return ref.last


def _place(ranges: Sequence[RangeRef], key: str) -> int:
    """Which range `key` belongs to: the first that ends at or after it, else the last."""
    return min(bisect_left(ranges, key, key=_last), max(len(ranges) - 1, 0))


def _upto(edits: Sequence[Edit], at: int, bounded: Sequence[RangeRef]) -> int:
    """How many edits fall into the first of `bounded`; all of them into a tree's last range."""
    return bisect_right(edits, bounded[0].last, lo=at, key=_key) if bounded else len(edits)


def _key(item: Edit) -> str:
    return item[0]


def _applied(held: Sequence[Item], edits: Sequence[Edit]) -> Iterator[Item]:
    merged: dict[str, Entry] = dict(held)
    for key, value in edits:
        before = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif before is None or before.identity != value.identity:
            merged[key] = value
    yield from sorted(merged.items())


def _pop_spill(made: list[Range]) -> list[Item]:
    """Take back the entries after the last cut: they belong to the range that follows."""
    if not made or ends_range(made[-1].keys[-1]):
        return []
    tail = made.pop()
    return list(zip(tail.keys, tail.entries, strict=True))
