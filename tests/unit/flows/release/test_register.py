from dataclasses import replace

import pytest

from flows.audit import read_log
from flows.release.promote import explain_no_promotion
from flows.release.register import (
    find_registration,
    read_release,
    register_candidate,
)
from security.errors import Untrusted
from security.policy.key_homes import load_signer
from security.release.bundle import seal
from security.release.index import Index, NamedRelease
from security.release.signing import Measurement, sign_gates, sign_provenance
from security.release.statement import Build, ModelRelease
from storage import registry
from storage.errors import NotFound
from storage.registry import candidates, layout
from storage.registry.details import RegisterDetails
from tests.release_site import MEASURED, Site
from tests.tiny_model import tiny_model

CANDIDATE = "c0" * 32


def put_candidate(
    site: Site, *, run: str = CANDIDATE, log_loss: str = "0.41", judged: bool = True
) -> Build:
    """A trained and judged candidate in the lake, as trainer and gatekeeper leave it."""
    folder, policy = site.work / run[:8], site.policy
    plain = site.work / f"{run[:8]}-plain"
    plain.mkdir(parents=True)
    files = {name: plain / name for name in tiny_model(0.5)}
    for name, data in tiny_model(0.5).items():
        files[name].write_bytes(data)
    bundle = seal(files, recipients=policy.recipients, out=folder)
    build = replace(
        site.build(site.lake.pin("flights")), run_id=run, reason="weekly", branch="main"
    )
    sign_provenance(folder, build, bundle.sealed, signer=load_signer(site.keys, "trainer"))
    if judged:
        gatekeeper = load_signer(site.keys, "gatekeeper")
        values = {**MEASURED, "log_loss": log_loss}
        measured = Measurement("flights", files, values, build=build)
        sign_gates(folder, measured, policy=policy, signer=gatekeeper)
    candidates.put(
        site.lake, "flights", run, folder, details=RegisterDetails(release=""), inputs={}
    )
    return build


def numbers(site: Site) -> list[int]:
    return registry.versions(site.lake, site.context().pin_releases(), "flights")


def test_a_judged_candidate_becomes_the_next_version_once(site: Site) -> None:
    build = put_candidate(site)
    context = site.context("serve")
    assert find_registration(site.lake, "flights", CANDIDATE) is None
    first, again = register_candidate(context, CANDIDATE), register_candidate(context, CANDIDATE)
    assert first == again == find_registration(site.lake, "flights", CANDIDATE)
    assert (first.run_id, numbers(site)) == (layout.register_run(CANDIDATE), [1])
    assert first.details["release"] == "flights/1"
    assert first.details["candidate"] == CANDIDATE
    assert first.details["reason"] == "weekly"
    release = read_release(context, CANDIDATE, first).release
    assert (release.build, release.version) == (build, 1)
    told = [one.kind for one in read_log(site.lake, context.pin_releases()).entries]
    assert told == ["signed", "signed", "release.registered"]


@pytest.mark.parametrize(("log_loss", "judged"), [("0.61", True), ("0.41", False)])
def test_what_did_not_pass_is_not_registered(site: Site, log_loss: str, judged: bool) -> None:
    put_candidate(site, log_loss=log_loss, judged=judged)
    with pytest.raises(Untrusted):
        register_candidate(site.context(), CANDIDATE)
    assert numbers(site) == []
    last = read_log(site.lake, site.context().pin_releases()).entries[-1]
    assert (last.kind, last.actor, last.subject) == ("refused", "serve", f"candidates/{CANDIDATE}")


def test_a_candidate_that_is_not_there(site: Site) -> None:
    with pytest.raises(NotFound):
        register_candidate(site.context(), CANDIDATE)


def test_a_record_that_names_anothers_release_is_not_believed(site: Site) -> None:
    other = "0d" * 32
    for run in (CANDIDATE, other):
        put_candidate(site, run=run)
    context = site.context()
    register_candidate(context, CANDIDATE)
    record = register_candidate(context, other)
    with pytest.raises(Untrusted, match=f"candidate {CANDIDATE[:12]} names flights/2"):
        read_release(context, CANDIDATE, record)


@pytest.fixture
def release(site: Site) -> ModelRelease:
    put_candidate(site)
    record = register_candidate(site.context(), CANDIDATE)
    return read_release(site.context(), CANDIDATE, record).release


def ran(*releases: ModelRelease) -> list[Index]:
    return [
        Index(
            environment="production",
            number=number,
            release=NamedRelease.of(one),
            actor="serve",
            reason="-",
            created="2013-07-01T00:00:00Z",
            previous=None if number == 1 else "ab" * 32,
        )
        for number, one in enumerate(releases, 1)
    ]


def test_a_candidate_is_promoted_by_itself_only_against_what_it_was_measured_with(
    release: ModelRelease,
) -> None:
    champion = replace(release, version=7, created_by="somebody")
    other = replace(release, version=8, created_by="somebody")
    measured = replace(release, version=9, parent=champion.digest)
    explain = explain_no_promotion
    assert explain(replace(release, parent=None), [], "production") == ""
    assert explain(measured, ran(champion), "production") == ""
    assert explain(measured, ran(other, champion), "production") == ""
    assert (
        explain(measured, ran(champion, other), "production")
        == "production runs flights/8 now, which it was not measured against"
    )
    assert (
        explain(measured, [], "production")
        == "production runs nothing now, which it was not measured against"
    )


def test_what_runs_needs_no_explanation_and_what_gave_way_comes_back_by_a_person(
    release: ModelRelease,
) -> None:
    champion = replace(release, version=7, created_by="somebody")
    measured = replace(release, version=9, parent=champion.digest)
    assert explain_no_promotion(measured, ran(champion, measured), "production") == ""
    assert (
        explain_no_promotion(measured, ran(measured, champion), "production")
        == "production ran it before and left it for flights/7"
    )


def test_what_was_trained_on_a_branch_stays_there(release: ModelRelease) -> None:
    aside = replace(release, build=replace(release.build, branch="trial"))
    assert explain_no_promotion(aside, [], "production") == "it was trained on trial"
