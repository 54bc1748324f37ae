"""Uncommitted changes: one row per key and branch, a null entry meaning that the key is gone.

Rows carry rising version numbers. A commit takes what was staged when it began and removes
exactly those versions, so that a write which arrives meanwhile stays staged.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from storage.embedded.graph.diff import KeyDifference, is_same, make_difference, pair_up
from storage.embedded.graph.ranges import ObjectEntry, decode_entry, encode_entry
from storage.embedded.graph.tree import (
    Edit,
    Item,
    Nodes,
    find_key_behind,
    get,
    scan,
)
from storage.embedded.sqlite import fetch_all, fetch_first

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Staged:
    """All that was staged at one moment; `upto` is the newest version among it."""

    edits: list[Edit]
    upto: int


def make_area(connection: apsw.Connection) -> int:
    """A staging area that was never used before."""
    connection.execute("INSERT INTO staging_area DEFAULT VALUES")
    return connection.last_insert_rowid()


def stage(connection: apsw.Connection, area: int, key: str, value: ObjectEntry | None) -> None:
    """Put the entry, or with None a tombstone, at `key`."""
    connection.execute(
        "INSERT OR REPLACE INTO staged(area, key, entry) VALUES (?, ?, ?)",
        (area, key, None if value is None else encode_entry(value)),
    )


def look_up(connection: apsw.Connection, area: int, key: str) -> tuple[bool, ObjectEntry | None]:
    """Whether anything is staged at `key`, and what."""
    row = fetch_first(
        connection, "SELECT entry FROM staged WHERE area = ? AND key = ?", *(area, key)
    )
    return row is not None, _decode(row[0]) if row else None


def find_visible(
    connection: apsw.Connection, nodes: Nodes, tree: str, area: int | None, key: str
) -> ObjectEntry | None:
    """The entry that a reader of the branch (or, without an area, of the commit) finds."""
    if area is not None:
        is_staged, value = look_up(connection, area, key)
        if is_staged:
            return value
    return get(nodes, tree, key)


def remove(connection: apsw.Connection, nodes: Nodes, tree: str, area: int, key: str) -> None:
    """Delete `key` on the branch.

    Whatever is staged there becomes a tombstone and is never just dropped: a commit under way
    may be about to publish it.
    """
    if look_up(connection, area, key)[0] or get(nodes, tree, key) is not None:
        stage(connection, area, key, None)


def scan_staged(connection: apsw.Connection, area: int, start: str = "") -> Iterator[Edit]:
    """Staged keys from `start` on, in byte order."""
    test, after = ">=", start
    while rows := fetch_all(
        connection,
        f"SELECT key, entry FROM staged WHERE area = ? AND key {test} ? ORDER BY key LIMIT ?",  # noqa: S608
        *(area, after, PAGE_ROWS),
    ):
        for key, text in rows:
            yield key, _decode(text)
        test, after = ">", rows[-1][0]


def read_staged(connection: apsw.Connection, area: int) -> Staged:
    """Everything staged, to commit it."""
    return Staged(list(scan_staged(connection, area)), find_newest(connection, area))


def find_newest(connection: apsw.Connection, area: int) -> int:
    """The newest version staged; 0 if nothing is."""
    row = fetch_first(connection, "SELECT max(version) FROM staged WHERE area = ?", area)
    return row[0] or 0 if row else 0


def drop(connection: apsw.Connection, area: int, upto: int | None = None) -> None:
    """Forget the staged versions up to and with `upto`, or all."""
    if upto is None:
        connection.execute("DELETE FROM staged WHERE area = ?", (area,))
    else:
        connection.execute("DELETE FROM staged WHERE area = ? AND version <= ?", (area, upto))


def reset(connection: apsw.Connection, area: int, prefix: str) -> None:
    """Forget what is staged under `prefix`."""
    stop = find_key_behind(prefix)
    connection.execute(
        "DELETE FROM staged WHERE area = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3)",
        (area, prefix, stop),
    )


def reset_key(connection: apsw.Connection, area: int, key: str) -> None:
    """Forget what is staged at `key`."""
    connection.execute("DELETE FROM staged WHERE area = ? AND key = ?", (area, key))


def overlay(
    connection: apsw.Connection, nodes: Nodes, tree: str, area: int | None, start: str = ""
) -> Iterator[Item]:
    """Keys and entries that a reader of the branch sees, in byte order."""
    committed = scan(nodes, tree, start)
    if area is None:
        yield from committed
        return
    pending = scan_staged(connection, area, start)
    edit = next(pending, None)
    for key, value in committed:
        while edit is not None and edit[0] < key:
            yield from _skip_tombstone(edit)
            edit = next(pending, None)
        if edit is not None and edit[0] == key:
            yield from _skip_tombstone(edit)
            edit = next(pending, None)
        else:
            yield key, value
    while edit is not None:
        yield from _skip_tombstone(edit)
        edit = next(pending, None)


def scan_uncommitted(
    connection: apsw.Connection, nodes: Nodes, tree: str, area: int, start: str = ""
) -> Iterator[KeyDifference]:
    """Staged changes that a commit would record."""
    for key, value in scan_staged(connection, area, start):
        before = get(nodes, tree, key)
        if not is_same(before, value):
            yield make_difference(key, before, value)


def diff_with_staged(
    connection: apsw.Connection, nodes: Nodes, left: str, tree: str, area: int, start: str = ""
) -> Iterator[KeyDifference]:
    """What changes from `left` to the branch with its uncommitted data."""
    seen = overlay(connection, nodes, tree, area, start)
    for key, before, after in pair_up(scan(nodes, left, start), seen):
        if not is_same(before, after):
            yield make_difference(key, before, after)


def _decode(text: str | None) -> ObjectEntry | None:
    return None if text is None else decode_entry(text)


def _skip_tombstone(edit: Edit) -> Iterator[Item]:
    key, value = edit
    if value is not None:
        yield key, value
