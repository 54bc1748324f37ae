from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.audit import read_log
from flows.release.approval import approve
from flows.release.promote import promote
from flows.release.proposals import FiledProposal, Proposal, open_proposal
from security.errors import Untrusted
from security.formats.strict_json import to_bytes
from security.policy.key_homes import load_signer
from security.release.index import Canary, Index, format_moment, sign_index
from storage.errors import Refused
from storage.registry.layout import proposal_path
from tests.release_site import Site
from tests.unit.flows.release.conftest import Releasers


def propose(releasers: Releasers, reason: str = "better", actor: str = "ana") -> int | None:
    context = releasers.ana.context(actor)
    return promote(context, releasers.release, environment="production", reason=reason).proposal


def shown(site: Site, number: int) -> Proposal:
    context = site.context()
    return open_proposal(site.lake, context.pin_releases(), context.trusted, "production", number)


def propose_instead(releasers: Releasers, index: Index) -> None:
    """Ana signs another index in the place of her first proposal."""
    envelope = sign_index(index, load_signer(releasers.ana.keys, "releaser")).decode()
    filed = FiledProposal(1, "promotion", envelope)
    releasers.ana.overwrite({proposal_path("production", 1): to_bytes(filed)})


def test_the_second_releaser_publishes_what_the_first_proposed(releasers: Releasers) -> None:
    propose(releasers)
    proposed = shown(releasers.ben, 1)
    done = approve(releasers.ben.context("ben"), environment="production", number=1)
    assert (done.index, done.missing) == (1, 0)
    context = releasers.ben.context()
    pin = context.pin_releases()
    standing = context.trusted.newest_index(context.lake, pin, "production")
    assert standing is not None
    assert standing.index == proposed.index
    told = [(one.kind, one.actor) for one in read_log(context.lake, pin).entries]
    assert told[-2:] == [("proposal.approved", "ben"), ("index.promoted", "ana")]
    assert ("proposal.made", "ana") in told


def test_one_request_is_one_proposal_as_long_as_it_is_open(releasers: Releasers) -> None:
    assert [propose(releasers) for _ in range(2)] == [1, 1]
    assert propose(releasers, reason="another") == 2
    assert propose(releasers, actor="eve") == 3


def test_one_releaser_counts_once(releasers: Releasers) -> None:
    propose(releasers)
    with pytest.raises(Refused, match="bears this releaser's signature already"):
        approve(releasers.ana.context("ana"), environment="production", number=1)
    assert shown(releasers.ana, 1).state == "open"


def test_nothing_is_signed_but_what_was_shown(releasers: Releasers) -> None:
    propose(releasers)
    seen = shown(releasers.ben, 1)
    propose_instead(releasers, replace(seen.index, reason="something else"))
    with pytest.raises(Refused, match="is not the one that was shown any more"):
        approve(releasers.ben.context("ben"), environment="production", number=1, shown=seen)


def test_a_canary_that_the_release_does_not_explain_is_not_signed(releasers: Releasers) -> None:
    propose(releasers)
    index = shown(releasers.ben, 1).index
    propose_instead(releasers, replace(index, canary=Canary(index.release, 50)))
    with pytest.raises(Untrusted, match="says more than which release is to run"):
        approve(releasers.ben.context("ben"), environment="production", number=1)
    last = read_log(releasers.ben.lake, releasers.ben.context().pin_releases()).entries[-1]
    assert (last.kind, last.actor, last.subject) == (
        "refused",
        "ben",
        proposal_path("production", 1),
    )


def test_a_proposal_of_a_time_to_come_is_not_signed(releasers: Releasers) -> None:
    propose(releasers)
    index = shown(releasers.ben, 1).index
    later = format_moment(datetime.now(UTC) + timedelta(hours=2))
    propose_instead(releasers, replace(index, created=later))
    with pytest.raises(Untrusted, match="which is to come"):
        approve(releasers.ben.context("ben"), environment="production", number=1)


def test_a_release_that_does_not_verify_here_is_not_signed(releasers: Releasers) -> None:
    propose(releasers)
    releasers.ana.damage(releasers.release)
    with pytest.raises(Untrusted):
        approve(releasers.ben.context("ben"), environment="production", number=1)
    assert len(shown(releasers.ana, 1).key_ids) == 1


def test_the_signature_of_a_stranger_counts_for_nothing(releasers: Releasers) -> None:
    from security.keys.keyfiles import replace_private
    from security.keys.pairs import Signer

    propose(releasers)
    stranger = Signer.generate("releaser")
    replace_private(releasers.ben.keys / "releaser", stranger.private_halves(), None)
    with pytest.raises(Untrusted, match="this releaser's key is not enrolled in the policy"):
        approve(releasers.ben.context("ben"), environment="production", number=1)
