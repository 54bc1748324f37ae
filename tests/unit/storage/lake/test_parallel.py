import threading

import pytest

from storage.lake.parallel import READERS, read_each


def test_results_come_in_the_order_of_the_items() -> None:
    assert read_each(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    assert read_each(str, []) == []


def test_so_many_reads_are_in_flight_at_once() -> None:
    """A barrier that only opens when all of them are there."""
    together = threading.Barrier(READERS)
    assert len(read_each(lambda _: together.wait(10), range(READERS))) == READERS


def test_what_one_read_raises_is_raised() -> None:
    with pytest.raises(KeyError):
        read_each({1: 1}.__getitem__, [1, 2])
