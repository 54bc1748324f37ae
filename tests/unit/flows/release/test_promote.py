import pytest

from flows.audit import read_log
from flows.release.promote import Promotion
from security.errors import Untrusted
from storage import registry
from storage.errors import NotFound
from storage.registry import ReleaseRef
from tests.release_site import Site

REF = ReleaseRef("flights", 3)


def test_a_person_is_told_what_came_of_it() -> None:
    done = Promotion("production", REF, 4, 4, False)
    assert done.told == "production index 4 names flights/3"
    waits = Promotion("production", REF, 3, 3, False, proposal=2)
    assert waits.told == (
        "proposal 2 of production names flights/3; "
        "another releaser approves it with `headrace model approve 2`"
    )


def test_what_runs_already_is_not_promoted_again(site: Site, ref: ReleaseRef) -> None:
    first, again = site.promote(ref, "one"), site.promote(ref, "two")
    assert (first.index, first.newest, first.already) == (1, 1, False)
    assert (again.index, again.newest, again.already) == (1, 1, True)


def test_a_late_repetition_does_not_undo_a_rollback(site: Site, ref: ReleaseRef) -> None:
    data = site.lake.pin("flights")
    site.promote(ref, "first")
    better = site.register(data)
    site.promote(better, "better")
    site.roll_back("it is not", keep_data=True)
    late = site.promote(better, "better")
    assert (late.index, late.newest, late.already) == (2, 3, True)
    assert site.served() == "3: 1"
    anew = site.promote(better, "it was another's fault")
    assert (anew.index, anew.already) == (4, False)
    assert site.served() == "4: 2"


def test_a_release_that_does_not_verify_runs_nowhere_and_the_log_tells_of_it(
    site: Site, ref: ReleaseRef
) -> None:
    site.damage(ref)
    with pytest.raises(Untrusted):
        site.promote(ref, actor="ana")
    pin = site.context().pin_releases()
    assert registry.index_numbers(site.lake, pin, "production") == []
    last = read_log(site.lake, pin).entries[-1]
    assert (last.kind, last.actor, last.subject) == ("refused", "ana", ref.path)
    assert (last.detail or {})["step"] == "promotion"


def test_a_release_that_is_not_there_cannot_be_promoted(site: Site) -> None:
    with pytest.raises(NotFound):
        site.promote(REF)


def test_the_first_promotion_publishes_the_policy(site: Site, ref: ReleaseRef) -> None:
    assert not site.lake.fs.exists("flights-releases", "main", "policy/trust.dsse.json")
    site.promote(ref)
    told = {one.subject for one in read_log(site.lake, site.context().pin_releases()).entries}
    assert {"policy/trust.dsse.json", "policy/rules.dsse.json"} <= told
    assert site.lake.fs.get("flights-releases", "main", "policy/trust.dsse.json") == (
        (site.keys / "trust.dsse.json").read_bytes()
    )


def test_nothing_is_promoted_where_the_log_was_cut_short(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.overwrite({"audit/head.json": None, "audit/entries/00000000.jsonl": None})
    with pytest.raises(Untrusted, match="truncated"):
        site.promote(site.register(site.lake.pin("flights")), "again")
