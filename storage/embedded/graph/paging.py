"""Pages: as many results as asked for, and whether more follow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from storage.embedded.graph.tree import find_key_behind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some results in order."""

    results: list[T]
    has_more: bool


@dataclass(frozen=True, slots=True)
class KeyWindow:
    """Which part of the keys a listing shows."""

    prefix: str = ""
    after: str = ""
    delimiter: str = ""
    amount: int = 100


@dataclass(frozen=True, slots=True)
class Folded:
    """All keys that share a prefix up to a delimiter."""

    prefix: str


def take_page(found: Iterable[T], amount: int) -> Page[T]:
    """The first `amount` of `found`."""
    taken = list(islice(found, amount + 1))
    return Page(taken[:amount], len(taken) > amount)


def group_keys(
    walk: Callable[[str], Iterator[T]], key_of: Callable[[T], str], window: KeyWindow
) -> Iterator[T | Folded]:
    """What `walk` finds in the window, with keys beyond a delimiter folded into their prefix.

    `walk(start)` yields sorted items from `start` on; a folded prefix is skipped by walking
    again from behind it.
    """
    start: str | None = max(window.prefix, window.after)
    while start is not None:
        folded: Folded | None = None
        for item in walk(start):
            key = key_of(item)
            if not key.startswith(window.prefix):
                return
            if folded := fold(key, window):
                break
            if key != window.after:
                yield item
        if folded is None:
            return
        if folded.prefix != window.after:
            yield folded
        start = find_key_behind(folded.prefix)


def fold(key: str, window: KeyWindow) -> Folded | None:
    """The common prefix that stands for `key`, if a delimiter follows the window's prefix."""
    if not window.delimiter:
        return None
    found = key.find(window.delimiter, len(window.prefix))
    return None if found < 0 else Folded(key[: found + len(window.delimiter)])
