from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.trust.installation import Trusted
from flows.trust.newest_index import (
    GRACE,
    read_history,
    read_index,
    read_standing_index,
    refuse_stale,
    signatures_hold,
    verify_unseen,
)
from security.errors import Untrusted
from security.policy.floor import Floor
from security.policy.key_homes import load_signer
from security.policy.role_keys import Retirement, retire
from security.release.index import Index, NamedRelease, format_moment, sign_index, sign_timestamp
from storage import registry
from storage.errors import NotFound
from storage.lake import Pin
from tests.release_site import Site

REPOSITORY = "flights-releases"
RELEASE = NamedRelease("flights", 1, "01" * 32, "models/flights/1")


def pin(site: Site) -> Pin:
    return site.lake.pin(REPOSITORY)


def put_indexes(site: Site, amount: int, *, age: timedelta = timedelta(0)) -> list[Index]:
    """Sign a history, past every stage."""
    signer, previous = load_signer(site.keys, "releaser"), None
    made, files = [], {}
    for number in range(1, amount + 1):
        created = format_moment(datetime.now(UTC) - age)
        made.append(Index("production", number, RELEASE, "ana", "-", created, previous))
        envelope = sign_index(made[-1], signer)
        previous = verify_unseen(envelope, "production", site.policy).digest
        files[f"environments/production/index/{number}.json"] = envelope
    site.overwrite(dict(files))
    return made


def floor(site: Site) -> int:
    path = Trusted.load(site.keys).floors / REPOSITORY / "production.json"
    return int(Floor.load(path, environment="production").number)


def revoke_releaser(site: Site) -> None:
    retire(
        site.keys,
        "releaser",
        root=load_signer(site.keys, "root"),
        retirement=Retirement("stolen"),
    )


def test_the_standing_index_is_the_newest_and_raises_the_floor(site: Site) -> None:
    trusted = Trusted.load(site.keys)
    assert read_standing_index(site.lake, pin(site), trusted, "production") is None
    made = put_indexes(site, 2)
    found = read_standing_index(site.lake, pin(site), trusted, "production")
    assert found is not None
    assert (found.index, floor(site)) == (made[1], 2)
    assert signatures_hold(found, site.lake, pin(site), trusted)


def test_an_index_of_a_key_revoked_since_is_followed_and_raises_no_floor(site: Site) -> None:
    put_indexes(site, 2)
    revoke_releaser(site)
    trusted = Trusted.load(site.keys)
    found = read_standing_index(site.lake, pin(site), trusted, "production")
    assert found is not None
    assert (found.index.number, floor(site)) == (2, 0)
    assert not signatures_hold(found, site.lake, pin(site), trusted)


def test_an_index_that_nobody_signed_is_not_followed(site: Site) -> None:
    site.overwrite({"environments/production/index/1.json": b"{}"})
    with pytest.raises(Untrusted):
        read_standing_index(site.lake, pin(site), Trusted.load(site.keys), "production")


def test_the_history_is_read_back_to_the_first_by_digests(site: Site) -> None:
    made = put_indexes(site, 4)
    trusted = Trusted.load(site.keys)
    newest = trusted.newest_index(site.lake, pin(site), "production")
    assert newest is not None
    assert read_history(site.lake, pin(site), newest) == made
    revoke_releaser(site)
    assert read_history(site.lake, pin(site), newest) == made


def test_a_history_with_another_past_is_refused(site: Site) -> None:
    put_indexes(site, 3)
    newest = Trusted.load(site.keys).newest_index(site.lake, pin(site), "production")
    assert newest is not None
    signer = load_signer(site.keys, "releaser")
    other = Index("production", 1, RELEASE, "eve", "-", "2013-07-01T00:00:00Z")
    site.overwrite({"environments/production/index/1.json": sign_index(other, signer)})
    with pytest.raises(Untrusted, match="index 1 is not the one that index 2 follows"):
        read_history(site.lake, pin(site), newest)
    site.overwrite({"environments/production/index/1.json": None})
    with pytest.raises(NotFound):
        read_history(site.lake, pin(site), newest)


def test_one_index_is_read_with_its_digest(site: Site) -> None:
    made = put_indexes(site, 2)
    index, digest = read_index(site.lake, pin(site), "production", 1, site.policy)
    assert (index, digest) == (made[0], made[1].previous)
    with pytest.raises(NotFound):
        read_index(site.lake, pin(site), "production", 3, site.policy)
    envelope = registry.index(site.lake, pin(site), "production", 1)
    with pytest.raises(Untrusted, match="the index is for production, not staging"):
        verify_unseen(envelope, "staging", site.policy)
    assert floor(site) == 0


@pytest.mark.parametrize(
    ("age", "left", "refused"),
    [
        (GRACE - timedelta(hours=1), None, ""),
        (GRACE + timedelta(hours=1), None, "index 1 of production has no timestamp"),
        (GRACE * 30, timedelta(hours=1), ""),
        (GRACE * 30, -timedelta(hours=1), "the index's timestamp expired at"),
        (timedelta(0), -timedelta(hours=1), "the index's timestamp expired at"),
    ],
)
def test_an_index_is_built_on_only_while_it_is_known_to_be_the_newest(
    site: Site, age: timedelta, left: timedelta | None, refused: str
) -> None:
    put_indexes(site, 1, age=age)
    trusted = Trusted.load(site.keys)
    current = trusted.newest_index(site.lake, pin(site), "production")
    assert current is not None
    if left is not None:
        now = datetime.now(UTC)
        signer = load_signer(site.keys, "timestamp")
        stamp = sign_timestamp(current, created=now - age, expires=now + left, signer=signer)
        site.overwrite({"environments/production/index/1.timestamp.json": stamp})
    if not refused:
        refuse_stale(site.lake, pin(site), trusted, current)
        return
    with pytest.raises(Untrusted, match=refused) as caught:
        refuse_stale(site.lake, pin(site), trusted, current)
    assert "timestamp deployment" in caught.value.remedy


def test_another_indexs_timestamp_says_nothing_of_this_one(site: Site) -> None:
    put_indexes(site, 1)
    trusted, now = Trusted.load(site.keys), datetime.now(UTC)
    current = trusted.newest_index(site.lake, pin(site), "production")
    assert current is not None
    of_another = replace(current, digest="ff" * 32)
    signer = load_signer(site.keys, "timestamp")
    stamp = sign_timestamp(of_another, created=now, expires=now + GRACE, signer=signer)
    site.overwrite({"environments/production/index/1.timestamp.json": stamp})
    with pytest.raises(Untrusted, match="the timestamp names index 1"):
        refuse_stale(site.lake, pin(site), trusted, current)
