import pytest

from flows.audit import spool
from flows.audit.events import SERVICE, Event
from flows.audit.writing import (
    append_events,
    collect_events,
    hand_over,
    record_events,
    record_refusals,
)
from security.errors import Untrusted
from security.formats.strict_json import to_bytes
from storage.lake import LANDING, Lake
from storage.registry import layout
from tests.unit.fake_lake import NOBODY
from tests.unit.flows.audit.conftest import REPOSITORY, Logged

MOMENT = "2013-07-01T00:00:00Z"


def refused(actor: str = f"{SERVICE}production", reason: str = "forged") -> Event:
    return Event("refused", actor, "models/flights/1", reason=reason, at=MOMENT)


def told(logged: Logged) -> list[tuple[str, str, str | None]]:
    return [(one.kind, one.actor, one.reason) for one in logged.log().entries]


def test_an_entry_bears_the_run_that_wrote_it(logged: Logged) -> None:
    context = logged.site.context()
    outcome = context.commit_release(
        "x", "ab" * 32, lambda run: append_events(run, refused(), refused(reason="again"))
    )
    entries = logged.log().entries
    assert [one.transaction for one in entries] == [outcome.record.run_id] * 2
    assert [one.number for one in entries] == [0, 1]


def test_nothing_is_added_to_a_log_whose_head_is_of_another(logged: Logged) -> None:
    logged.tell("a", "b")
    head = logged.site.lake.fs.get(REPOSITORY, "main", layout.AUDIT_HEAD)
    logged.tell("c")
    logged.site.overwrite({layout.AUDIT_HEAD: head})
    with pytest.raises(Untrusted, match="last segment is not the end of its 2 entries"):
        logged.tell("d")


def test_two_who_write_at_once_both_stand_in_the_log(logged: Logged) -> None:
    context, nested = logged.site.context(), []

    def body(run) -> None:  # type: ignore[no-untyped-def]
        append_events(run, refused(reason="slow"))
        if not nested:
            nested.append(True)
            logged.tell("fast")

    context.commit_release("x", "cd" * 32, body)
    assert [one.reason or one.subject for one in logged.log().entries] == ["fast", "slow"]


def test_what_is_told_twice_stands_once(logged: Logged) -> None:
    for _ in range(2):
        record_events(logged.site.lake, "flights", refused())
    assert told(logged) == [("refused", f"{SERVICE}production", "forged")]


def test_what_the_lake_does_not_take_waits_and_is_told_with_the_next(logged: Logged) -> None:
    folder = logged.site.work / "spool"
    record_events(Lake(NOBODY), "flights", refused(), spool_folder=folder)
    assert [event for _, event in spool.list_waiting(folder)] == [refused()]
    record_events(logged.site.lake, "flights", refused(reason="next"), spool_folder=folder)
    assert sorted(reason for _, _, reason in told(logged)) == ["forged", "next"]
    assert list(spool.list_waiting(folder)) == []


def test_a_refusal_goes_on_and_is_told(logged: Logged) -> None:
    context = logged.site.context("ana")
    for error in (Untrusted("it is forged"), ValueError("not ours")):
        with pytest.raises(type(error)), record_refusals(context, subject="models/x/1", step="y"):
            raise error
    assert told(logged) == [("refused", "ana", "it is forged")]
    assert list(spool.list_waiting(logged.site.keys.parent / "audit-spool")) == []


def test_a_service_hands_over_and_the_log_takes_it_once(logged: Logged) -> None:
    folder, lake = logged.site.work / "spool", logged.site.lake
    spool.keep_event(folder, refused())
    assert hand_over(Lake(NOBODY), "flights", folder) is False
    assert len(list(spool.list_waiting(folder))) == 1
    assert hand_over(lake, "flights", folder) is True
    assert list(spool.list_waiting(folder)) == []
    left = [one.path for one in lake.fs.objects("flights", LANDING)]
    assert left == [f"audit/{spool.name_of(refused())}.json"]
    assert [collect_events(lake, "flights") for _ in range(2)] == [1, 0]
    assert told(logged) == [("refused", f"{SERVICE}production", "forged")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{}", ""),
        (b"x" * 20_000, "it has 20000 bytes"),
        (to_bytes(refused(actor="ana")), "a service may not speak for ana"),
        (
            to_bytes(Event("key.revoked", f"{SERVICE}production", "keys/x", at=MOMENT)),
            "a service may not tell of key.revoked",
        ),
    ],
)
def test_what_a_service_may_not_say_is_thrown_away(
    logged: Logged, caplog: pytest.LogCaptureFixture, data: bytes, reason: str
) -> None:
    lake = logged.site.lake
    lake.fs.put("flights", LANDING, "audit/one.json", data)
    assert collect_events(lake, "flights") == 0
    assert told(logged) == []
    assert lake.fs.objects("flights", LANDING, prefix="audit/") == []
    assert f"audit/one.json is not taken into the audit log: {reason}" in caplog.text
