"""Sorted ranges of entries, in groups: what a commit's tree is made of.

A range ends after every key whose hash is a multiple of `RANGE_KEYS`, and a group of ranges after
every key whose hash is a multiple of both constants, so the same keys always fall into the same
ranges and groups, whatever the history, and equal ones have equal ids. A group's node is an
index of its ranges; a tree's is a root over its groups, or the index itself where one is enough.
A node's id hashes keys and identities; modification times are carried but, as in lakeFS, are not
identity.

Stores made before there were groups have one index a tree, which reads as one group, and ranges
of 256 keys: their cuts are among today's, so an edit makes them finer where it touches them.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any

from storage.errors import Damaged

RANGE_KEYS = 64
GROUP_RANGES = 64
_COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object: where its bytes are and what a client may ask about it."""

    digest: str
    """SHA-256 of the bytes, in hex: their address in the blob store."""
    etag: str
    size: int
    content_type: str
    modified_s: int
    metadata: dict[str, str]
    identity: str
    """What makes two versions of an object the same to a diff or a merge."""

    def with_metadata(self, metadata: dict[str, str]) -> "ObjectEntry":
        """The same bytes with other user metadata."""
        return make_entry(
            digest=self.digest,
            etag=self.etag,
            size=self.size,
            content_type=self.content_type,
            modified_s=self.modified_s,
            metadata=metadata,
        )


@dataclass(frozen=True, slots=True)
class Range:
    """A run of neighbouring keys, in order, with their entries."""

    id: str
    keys: tuple[str, ...]
    entries: tuple[ObjectEntry, ...]


@dataclass(frozen=True, slots=True)
class RangeRef:
    """A range as an index lists it."""

    id: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class GroupIndex:
    """The ranges of one group in key order."""

    id: str
    ranges: tuple[RangeRef, ...]


@dataclass(frozen=True, slots=True)
class Root:
    """The groups of one tree in key order, listed as ranges are."""

    id: str
    """The empty string for the empty tree, and the group's own id where there is but one."""
    groups: tuple[RangeRef, ...]


EMPTY = Root("", ())


def make_entry(
    *,
    digest: str,
    etag: str,
    size: int,
    content_type: str,
    modified_s: int,
    metadata: dict[str, str],
) -> ObjectEntry:
    """An entry with its identity worked out."""
    facts = [digest, etag, size, content_type, sorted(metadata.items())]
    identity = sha256(_to_json(facts)).hexdigest()
    return ObjectEntry(digest, etag, size, content_type, modified_s, metadata, identity)


def encode_entry(value: ObjectEntry) -> str:
    """The entry as the staging table keeps it."""
    return _to_json(_to_row(value)).decode()


def decode_entry(text: str) -> ObjectEntry:
    """The reverse of `entry_text`. Raises: Damaged."""
    try:
        return ObjectEntry(*json.loads(text))
    except (ValueError, TypeError) as error:
        raise Damaged(f"uncommitted data cannot be read: {error}: {text[:80]!r}") from error


def ends_range(key: str) -> bool:
    """Whether a range is cut after this key."""
    return _hash(key) % RANGE_KEYS == 0


def ends_group(key: str) -> bool:
    """Whether a group, and so a range, is cut after this key."""
    return _hash(key) % (RANGE_KEYS * GROUP_RANGES) == 0


def cut(items: Iterable[tuple[str, ObjectEntry]]) -> Iterator[Range]:
    """Ranges of sorted items; only the last may lack a cutting key at its end."""
    run: list[tuple[str, ObjectEntry]] = []
    for key, value in items:
        run.append((key, value))
        if ends_range(key):
            yield _make_range(run)
            run = []
    if run:
        yield _make_range(run)


def cut_groups(ranges: Iterable[RangeRef]) -> Iterator[GroupIndex]:
    """Groups of neighbouring ranges; only the last may lack a cutting key at its end."""
    run: list[RangeRef] = []
    for ref in ranges:
        run.append(ref)
        if ends_group(ref.last):
            yield make_index(run)
            run = []
    if run:
        yield make_index(run)


def make_index(ranges: Sequence[RangeRef]) -> GroupIndex:
    """The group of these ranges."""
    return GroupIndex(_hash_refs(b"index", ranges), tuple(ranges))


def make_root(groups: Sequence[RangeRef]) -> Root:
    """The tree of these groups."""
    if len(groups) < 2:
        return Root(groups[0].id, tuple(groups)) if groups else EMPTY
    return Root(_hash_refs(b"root", groups), tuple(groups))


def encode_range(value: Range) -> bytes:
    """The stored form."""
    rows = [[key, *_to_row(item)] for key, item in zip(value.keys, value.entries, strict=True)]
    return zlib.compress(_to_json(rows), _COMPRESSION)


def decode_range(node: str, body: bytes) -> Range:
    """The range stored under `node`. Raises: Damaged if the body is not that range."""
    rows = _unpack(node, body)
    items = [(row[0], ObjectEntry(*row[1:])) for row in rows]
    found = _make_range(items)
    if found.id != node:
        raise Damaged(f"range {node} holds other keys than were written")
    return found


def encode_index(value: GroupIndex) -> bytes:
    """The stored form."""
    return zlib.compress(_to_json(_to_rows(value.ranges)), _COMPRESSION)


def encode_root(value: Root) -> bytes:
    """The stored form of a root over several groups."""
    return zlib.compress(_to_json({"groups": _to_rows(value.groups)}), _COMPRESSION)


def decode_index(node: str, body: bytes) -> GroupIndex:
    """The index stored under `node`. Raises: Damaged if the body is not that index."""
    found = _read_index(_unpack(node, body))
    if found is None or found.id != node:
        raise Damaged(f"index {node} holds other ranges than were written")
    return found


def decode_root(node: str, body: bytes) -> Root:
    """The tree stored under `node`. Raises: Damaged if the body is not that tree."""
    rows = _unpack(node, body)
    if index := _read_index(rows):
        found = Root(index.id, (RangeRef(index.id, index.ranges[0].first, index.ranges[-1].last),))
    else:
        found = make_root([RangeRef(*row) for row in rows.get("groups", ())])
    if found.id != node:
        raise Damaged(f"tree {node} holds other groups than were written")
    return found


def _read_index(rows: Any) -> GroupIndex | None:
    """The index that an unpacked body lists, if it is one."""
    return make_index([RangeRef(*row) for row in rows]) if isinstance(rows, list) else None


def _make_range(items: Sequence[tuple[str, ObjectEntry]]) -> Range:
    keys, entries = zip(*items, strict=True)
    named = [text for key, value in items for text in (key, value.identity)]
    return Range(sha256(b"range" + _to_json(named)).hexdigest(), keys, entries)


def _hash_refs(kind: bytes, refs: Sequence[RangeRef]) -> str:
    return sha256(kind + _to_json(_to_rows(refs))).hexdigest()


def _to_rows(refs: Sequence[RangeRef]) -> list[list[str]]:
    return [[ref.id, ref.first, ref.last] for ref in refs]


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest())


def _to_row(value: ObjectEntry) -> list[object]:
    return [
        value.digest,
        value.etag,
        value.size,
        value.content_type,
        value.modified_s,
        value.metadata,
        value.identity,
    ]


def _to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _unpack(node: str, body: bytes) -> Any:
    try:
        return json.loads(zlib.decompress(body))
    except (zlib.error, ValueError) as error:
        raise Damaged(f"node {node} cannot be read: {error}") from error
