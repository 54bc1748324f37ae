import pytest

from flows.audit import read_log
from flows.release.publish_index import (
    NextIndex,
    make_request_id,
    name_release,
    names_release,
    publish_index,
    refuse_second,
    verify_registered,
    write_index,
)
from security.errors import Untrusted
from security.policy.key_homes import load_signer
from security.release.index import VerifiedIndex, sign_index
from storage import registry
from storage.errors import NotFound, Refused
from storage.registry import ReleaseRef
from tests.release_site import Site
from tests.unit.flows.release.conftest import Releasers


def following(
    site: Site, ref: ReleaseRef, *, reason: str = "better", after: VerifiedIndex | None = None
) -> NextIndex:
    number = after.index.number if after else 0
    pin = site.context().pin_releases()
    return NextIndex(
        environment="production",
        release=verify_registered(site.lake, pin, ref, site.policy.for_cosigner()),
        kind="promotion",
        actor="ana",
        reason=reason,
        after=after,
        request_id=make_request_id("promotion", ref, reason, after=number),
    )


def newest(site: Site) -> VerifiedIndex:
    context = site.context()
    found = context.trusted.newest_index(site.lake, context.pin_releases(), "production")
    assert found is not None
    return found


def test_a_promotion_is_one_wherever_it_is_asked_for_and_a_rollback_is_one_at_its_place() -> None:
    ref = ReleaseRef("flights", 3)
    for after in (0, 7):
        assert make_request_id("promotion", ref, "new", after=after) == "promote flights/3: new"
    assert (
        make_request_id("rollback", ref, "bad", after=7)
        == "roll back from index 7 to flights/3: bad"
    )


def test_the_first_index_has_no_predecessor_and_the_next_names_its_digest(
    site: Site, ref: ReleaseRef
) -> None:
    first = following(site, ref)
    assert (first.number, first.index().previous) == (1, None)
    assert publish_index(site.context("ana"), first)[0] == 1
    standing = newest(site)
    second = following(site, ref, after=standing).index()
    assert (second.number, second.previous) == (2, standing.digest)
    assert (second.environment, second.actor, second.reason) == ("production", "ana", "better")
    assert name_release(second.release) == "flights/1"


def test_one_request_writes_one_index_and_one_entry(site: Site, ref: ReleaseRef) -> None:
    context, wanted = site.context("ana"), following(site, ref)
    results = [publish_index(context, wanted) for _ in range(2)]
    assert [(number, outcome.already) for number, outcome in results] == [(1, False), (1, True)]
    pin = context.pin_releases()
    assert registry.index_numbers(site.lake, pin, "production") == [1]
    told = [one for one in read_log(site.lake, pin).entries if one.kind == "index.promoted"]
    assert [(one.actor, one.subject, one.reason) for one in told] == [
        ("ana", "environments/production/index/1", "better")
    ]
    assert told[0].digest == newest(site).digest
    assert dict(told[0].detail or {}) == {"release": "flights/1"}


def test_an_index_that_came_first_wins_and_is_named(site: Site, ref: ReleaseRef) -> None:
    late = following(site, ref, reason="another")
    publish_index(site.context("ana"), following(site, ref, reason="first"))
    with pytest.raises(Refused) as caught:
        publish_index(site.context("ben"), late)
    assert str(caught.value) == "ana wrote index 1 of production meanwhile: flights/1 (first)."
    assert "headrace model list" in caught.value.remedy
    assert registry.index_numbers(site.lake, site.context().pin_releases(), "production") == [1]


def test_only_another_number_with_a_predecessor_is_a_second_decision(
    site: Site, ref: ReleaseRef
) -> None:
    wanted = following(site, ref)
    signed = sign_index(wanted.index(), load_signer(site.keys, "releaser"))
    refuse_second(wanted, 1, None, site.policy)
    refuse_second(wanted, 1, signed, site.policy)
    with pytest.raises(Refused, match="ana wrote index 1 of production meanwhile"):
        refuse_second(wanted, 2, signed, site.policy)


def test_a_winner_that_nobody_signed_is_not_quoted(site: Site, ref: ReleaseRef) -> None:
    stranger = b'{"payload": "e30=", "payloadType": "x", "signatures": []}'
    with pytest.raises(Untrusted):
        refuse_second(following(site, ref), 2, stranger, site.policy)


def test_an_index_that_lacks_a_signature_is_not_written(releasers: Releasers) -> None:
    site = releasers.ana
    wanted = following(site, releasers.release)
    alone = sign_index(wanted.index(), load_signer(site.keys, "releaser"))
    before = site.context().pin_releases()
    with pytest.raises(Untrusted, match="2"):
        write_index(site.context("ana"), wanted, alone)
    assert site.context().pin_releases() == before


def test_a_release_is_verified_in_full_where_it_stands(site: Site, ref: ReleaseRef) -> None:
    pin = site.context().pin_releases()
    verified = verify_registered(site.lake, pin, ref, site.policy)
    assert names_release(following(site, ref).index(), verified)
    other = site.register(site.lake.pin("flights"))
    pin = site.context().pin_releases()
    assert not names_release(
        following(site, ref).index(), verify_registered(site.lake, pin, other, site.policy)
    )
    with pytest.raises(NotFound, match="nothing at flights-releases/models/flights/9"):
        verify_registered(site.lake, pin, ReleaseRef("flights", 9), site.policy)
    site.damage(ref)
    with pytest.raises(Untrusted):
        verify_registered(site.lake, site.context().pin_releases(), ref, site.policy)
