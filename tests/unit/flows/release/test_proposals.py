from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.release.approval import approve
from flows.release.promote import promote
from flows.release.proposals import (
    LIFETIME,
    FiledProposal,
    Proposal,
    cosign_release,
    list_numbers,
    list_proposals,
    open_proposal,
)
from security.errors import Untrusted
from security.formats.strict_json import to_bytes
from security.keys.pairs import Signer
from security.policy.key_homes import load_signer
from security.release.index import format_moment, sign_index
from storage.errors import NotFound, Refused
from storage.registry import ReleaseRef
from storage.registry.layout import proposal_path
from tests.release_site import Site
from tests.unit.flows.release.conftest import Releasers


def listed(site: Site) -> list[Proposal]:
    context = site.context()
    return list_proposals(site.lake, context.pin_releases(), context.trusted, "production")


def opened(site: Site, number: int) -> Proposal:
    context = site.context()
    return open_proposal(site.lake, context.pin_releases(), context.trusted, "production", number)


def propose(releasers: Releasers, reason: str = "better") -> int:
    context = releasers.ana.context("ana")
    done = promote(context, releasers.release, environment="production", reason=reason)
    assert done.proposal is not None
    return done.proposal


def file_proposal(site: Site, one: Proposal, signer: Signer, number: int, at: int) -> None:
    """Sign the proposal's index, and put it in a place, past every stage."""
    envelope = sign_index(one.index, signer).decode()
    filed = FiledProposal(number, one.kind, envelope)
    site.overwrite({proposal_path("production", at): to_bytes(filed)})


def test_a_proposal_is_open_and_shows_who_signed(releasers: Releasers) -> None:
    number = propose(releasers)
    (one,) = listed(releasers.ben)
    assert (one.number, one.state, one.needed, number) == (1, "open", 2, 1)
    assert one.key_ids == (load_signer(releasers.ana.keys, "releaser").public.key_id,)
    assert (one.index.number, one.index.previous, one.index.reason) == (1, None, "better")
    assert opened(releasers.ben, 1) == one


def test_of_two_proposals_one_is_approved_and_the_other_overtaken(releasers: Releasers) -> None:
    assert [propose(releasers, reason) for reason in ("one", "two")] == [1, 2]
    approve(releasers.ben.context("ben"), environment="production", number=2)
    assert [one.state for one in listed(releasers.ana)] == ["overtaken", "approved"]
    for number, state in ((1, "overtaken"), (2, "approved")):
        with pytest.raises(Refused) as caught:
            opened(releasers.ana, number)
        assert str(caught.value) == (
            f"Proposal {number} of production is {state}; its newest index is 1."
        )


def test_a_proposal_expires_a_lifetime_after_its_first_signature(releasers: Releasers) -> None:
    propose(releasers)
    (one,) = listed(releasers.ana)
    signer, now = load_signer(releasers.ana.keys, "releaser"), datetime.now(UTC)
    for age, state in ((timedelta(hours=1), "open"), (-timedelta(seconds=5), "expired")):
        created = format_moment(now - LIFETIME + age)
        aged = replace(one, index=replace(one.index, created=created))
        file_proposal(releasers.ana, aged, signer, 1, at=1)
        (found,) = listed(releasers.ana)
        assert (found.state, found.index.created) == (state, created)
    until = f"{found.expires:%Y-%m-%d %H:%M}"
    with pytest.raises(Refused, match=f"is expired at {until} UTC; its newest index is none"):
        opened(releasers.ana, 1)


def test_what_no_releaser_signed_leads_to_nothing(releasers: Releasers) -> None:
    propose(releasers)
    (one,) = listed(releasers.ana)
    file_proposal(releasers.ana, one, Signer.generate("releaser"), 1, at=1)
    assert listed(releasers.ana) == []
    with pytest.raises(Untrusted):
        opened(releasers.ana, 1)


def test_a_proposal_counts_in_its_own_place_only(releasers: Releasers) -> None:
    propose(releasers)
    (one,) = listed(releasers.ana)
    file_proposal(releasers.ana, one, load_signer(releasers.ana.keys, "releaser"), 1, at=2)
    assert [found.number for found in listed(releasers.ana)] == [1]
    with pytest.raises(Untrusted, match="proposal 2 of production stands in another's place"):
        opened(releasers.ana, 2)


def test_a_proposal_that_is_not_there(releasers: Releasers) -> None:
    with pytest.raises(NotFound) as caught:
        opened(releasers.ana, 4)
    assert str(caught.value) == "production has no proposal 4."
    assert "headrace model proposals" in caught.value.remedy


def test_only_numbered_documents_are_proposals(site: Site) -> None:
    names = ("10.json", "9.json", "x.json", "3.txt", "1.json.bak")
    site.overwrite({f"environments/production/proposals/{name}": b"{}" for name in names})
    pin = site.context().pin_releases()
    assert list_numbers(site.lake, pin, "production") == [9, 10]
    assert list_numbers(site.lake, pin, "staging") == []


def test_a_release_that_has_its_signatures_takes_no_more(site: Site, ref: ReleaseRef) -> None:
    signer, pin = load_signer(site.keys, "releaser"), site.context().pin_releases()
    assert cosign_release(site.lake, pin, ref, site.policy, signer, complete=True) == {}
