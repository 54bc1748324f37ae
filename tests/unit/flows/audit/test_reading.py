import pytest

from flows.audit.reading import (
    check_grown,
    floor_path,
    keep_floor,
    read_floor,
    read_log,
    read_peaks,
    read_segment,
)
from security.audit.log import SEGMENT, Peaks
from security.errors import Untrusted
from storage.registry import layout
from tests.unit.flows.audit.conftest import REPOSITORY, Logged


def subjects(first: int, last: int) -> list[str]:
    return [f"models/flights/{n}" for n in range(first, last)]


def test_segments_are_named_so_that_they_sort() -> None:
    assert layout.audit_segment(12) == "audit/entries/00000012.jsonl"


def test_before_the_first_entry_the_log_is_empty(logged: Logged) -> None:
    assert logged.log().lines == ()
    assert read_peaks(logged.site.lake, REPOSITORY, "main") == Peaks()
    assert logged.check_grown() == Peaks()
    with pytest.raises(Untrusted, match="segment 0 is missing"):
        read_segment(logged.site.lake, REPOSITORY, "main", 0)


def test_what_was_told_is_read_in_order_over_segments(logged: Logged) -> None:
    logged.tell(*subjects(0, 60))
    logged.tell(*subjects(60, 130))
    entries = logged.log().entries
    assert [one.subject for one in entries] == subjects(0, 130)
    assert [one.number for one in entries] == list(range(130))
    lake = logged.site.lake
    sizes = [len(read_segment(lake, REPOSITORY, "main", n)) for n in range(3)]
    assert sizes == [SEGMENT, SEGMENT, 2]
    assert read_peaks(lake, REPOSITORY, "main").tree.root == logged.log().root()


def test_growth_is_followed_and_remembered(logged: Logged) -> None:
    path = floor_path(logged.site.context().trusted.floors, REPOSITORY)
    for amount in (3, 70, 75):
        logged.tell(*subjects(0, amount))
        logged.check_grown()
        assert read_floor(path).tree.root == logged.log().root()
    assert read_floor(path).size == 148


def test_a_floor_does_not_go_back(logged: Logged) -> None:
    path = floor_path(logged.site.context().trusted.floors, REPOSITORY)
    logged.tell(*subjects(0, 3))
    longer = logged.check_grown()
    keep_floor(path, Peaks())
    assert read_floor(path) == longer
    path.write_bytes(b"{}x")
    with pytest.raises(Untrusted):
        read_floor(path)


def test_a_log_that_was_cut_short_is_refused(logged: Logged) -> None:
    logged.tell(*subjects(0, 5))
    logged.check_grown()
    logged.put(list(logged.log().lines[:4]))
    assert len(logged.log().lines) == 4
    with pytest.raises(Untrusted, match="truncated: it had 5 entries and has 4"):
        logged.check_grown()


def test_a_log_with_another_past_is_refused(logged: Logged) -> None:
    logged.tell(*subjects(0, 5))
    logged.check_grown()
    lines = list(logged.log().lines)
    lines[1] = lines[1].replace(b'"ana"', b'"eve"')
    logged.put([*lines, lines[-1].replace(b'"number":4', b'"number":5')])
    assert len(logged.log().entries) == 6
    with pytest.raises(Untrusted, match="rewritten or forked: its first 5 entries"):
        logged.check_grown()


def test_a_log_that_is_not_what_its_head_says_is_refused(logged: Logged) -> None:
    logged.tell(*subjects(0, 70))
    site, whole = logged.site, logged.log()
    site.overwrite({layout.audit_segment(1): None})
    with pytest.raises(Untrusted, match="segment 1 is missing"):
        logged.log()
    logged.put(list(whole.lines))
    site.overwrite({layout.audit_segment(2): whole.lines[0] + b"\n"})
    with pytest.raises(Untrusted, match="70 entries, and there are 70 in 3 segments"):
        logged.log()
    site.overwrite({layout.audit_segment(2): None, layout.audit_segment(1): whole.lines[0]})
    with pytest.raises(Untrusted, match="torn"):
        logged.log()
    site.overwrite(
        {layout.audit_segment(1): None, layout.AUDIT_HEAD: b'{"peaks":[],"size":1000000000}'}
    )
    with pytest.raises(Untrusted):
        read_log(site.lake, logged.pin)
    with pytest.raises(Untrusted):
        check_grown(site.lake, logged.pin, site.context().trusted.floors)
