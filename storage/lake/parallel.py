"""Many small reads of a lake at once: what hides its latency, in one place."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# So many small reads in flight hide a lake's latency; more only queue up in front of it.
READERS = 8

T = TypeVar("T")
R = TypeVar("R")


def read_each(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What `function` returns for each item, in their order; raises what it raises first."""
    wanted = list(items)
    if len(wanted) < 2:
        return [function(item) for item in wanted]
    with ThreadPoolExecutor(min(READERS, len(wanted))) as pool:
        return list(pool.map(function, wanted))
