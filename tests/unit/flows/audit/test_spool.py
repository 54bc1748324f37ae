from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.audit import spool
from flows.audit.events import Event
from flows.audit.spool import keep_event, list_waiting, name_of, parse_event
from security.errors import Untrusted
from security.formats.strict_json import to_bytes

EVENT = Event("refused", "ana", "models/flights/1", reason="forged", at="2013-07-01T00:00:00Z")


def other(reason: str) -> Event:
    return Event("refused", "ana", "models/flights/1", reason=reason, at=EVENT.at)


def test_an_event_told_twice_waits_once_and_reads_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "audit-spool"
    assert [keep_event(folder, EVENT) for _ in range(2)] == [True, True]
    assert list(list_waiting(folder)) == [(folder / f"{name_of(EVENT)}.json", EVENT)]
    assert folder.stat().st_mode & 0o777 == 0o700


@settings(max_examples=40)
@given(st.text(max_size=40), st.text(max_size=40))
def test_two_events_share_a_name_only_if_they_say_the_same(left: str, right: str) -> None:
    one, two = other(left).tidied(), other(right).tidied()
    assert (name_of(other(left)) == name_of(other(right))) == (one == two)
    assert parse_event(to_bytes(one)) == one


def test_the_spool_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    events = [other(f"reason {n}") for n in range(5)]
    for event in events:
        keep_event(tmp_path, event)
    assert [event for _, event in list_waiting(tmp_path)] == sorted(events, key=name_of)


def test_a_damaged_file_is_set_aside_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_event(tmp_path, EVENT)
    (tmp_path / "00.json").write_bytes(b'{"kind": "refused"')
    assert [event for _, event in list_waiting(tmp_path)] == [EVENT]
    assert (tmp_path / "00.damaged").exists()
    assert "00.json is no audit event" in caplog.text
    assert [event for _, event in list_waiting(tmp_path)] == [EVENT]


def test_a_full_spool_takes_no_more_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "MAX_EVENTS", 2)
    assert [keep_event(tmp_path, other(str(n))) for n in range(3)] == [True, True, False]
    assert "the audit spool is full; lost: refused models/flights/1" in caplog.text
    assert len(list(list_waiting(tmp_path))) == 2


def test_a_folder_that_cannot_be_made_loses_the_event_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert keep_event(tmp_path / "file", EVENT) is False
    assert "the audit spool failed" in caplog.text


def test_there_is_nothing_in_a_spool_that_was_never_made(tmp_path: Path) -> None:
    assert list(list_waiting(tmp_path / "nowhere")) == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"signed","kind":"refused"}', b"[1]"])
def test_what_is_no_event_is_not_read(data: bytes) -> None:
    with pytest.raises(Untrusted):
        parse_event(data)
