from datetime import UTC, datetime, timedelta

import pytest

from flows.audit import read_log
from flows.release.timestamp import LIFETIME, RENEW_BEFORE, refresh_timestamp
from flows.trust.installation import Trusted
from security.errors import BadKey, Untrusted
from security.policy.floor import Floor
from security.policy.key_homes import load_signer
from security.release.index import VerifiedIndex, sign_timestamp, verify_index
from storage import registry
from storage.registry import ReleaseRef
from tests.release_site import Site

STAMP = "environments/production/index/1.timestamp"


def current(site: Site) -> VerifiedIndex:
    found = Trusted.load(site.keys).newest_index(
        site.lake, site.context().pin_releases(), "production"
    )
    assert found is not None
    return found


def fresh_until(site: Site) -> datetime | None:
    pin = site.context().pin_releases()
    return verify_index(
        registry.index(site.lake, pin, "production", 1),
        environment="production",
        policy=site.policy,
        floor=Floor("production"),
        now=datetime.now(UTC),
        timestamp=site.context().trusted.timestamp(site.lake, pin, "production", 1),
    ).fresh_until


def put_stamp(site: Site, left: timedelta) -> None:
    now = datetime.now(UTC)
    envelope = sign_timestamp(
        current(site),
        created=now - timedelta(days=30),
        expires=now + left,
        signer=load_signer(site.keys, "timestamp"),
    )
    site.overwrite({f"{STAMP}.json": envelope})


def test_before_the_first_index_there_is_nothing_to_say(site: Site) -> None:
    assert site.timestamp() is False


def test_a_timestamp_is_signed_once_and_told(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    before = datetime.now(UTC).replace(microsecond=0)
    assert [site.timestamp(), site.timestamp()] == [True, False]
    until = fresh_until(site)
    assert until is not None
    assert before + LIFETIME <= until <= datetime.now(UTC) + LIFETIME
    entries = read_log(site.lake, site.context().pin_releases()).entries
    told = [one for one in entries if one.subject == STAMP]
    assert [(one.kind, one.role, one.actor) for one in told] == [
        ("signed", "timestamp", "timestamp")
    ]


@pytest.mark.parametrize(
    ("left", "renewed"),
    [
        (RENEW_BEFORE + timedelta(hours=1), False),
        (RENEW_BEFORE - timedelta(hours=1), True),
        (-timedelta(hours=1), True),
    ],
)
def test_it_is_renewed_in_time(site: Site, ref: ReleaseRef, left: timedelta, renewed: bool) -> None:
    site.promote(ref)
    put_stamp(site, left)
    assert site.timestamp() is renewed


def test_a_stamp_that_nobody_signed_is_replaced(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.overwrite({f"{STAMP}.json": b"{}"})
    assert site.timestamp() is True
    assert fresh_until(site) is not None


def test_an_index_that_does_not_verify_is_not_said_to_be_the_newest(
    site: Site, ref: ReleaseRef
) -> None:
    site.promote(ref)
    site.overwrite({"environments/production/index/1.json": b"{}"})
    with pytest.raises(Untrusted):
        site.timestamp()


def test_without_the_role_nothing_is_signed(
    site: Site, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.promote(ref)
    monkeypatch.setenv("HEADRACE_ROLES", "releaser")
    with pytest.raises(BadKey, match="may not use the timestamp's key"):
        refresh_timestamp(site.context(), environment="production")
