"""Old, frozen, forged and racing indexes, met by those who promote and roll back."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.release import timestamp
from flows.trust import newest_index
from flows.trust.installation import Trusted
from security.errors import Untrusted
from security.keys.keyfiles import replace_private
from security.keys.pairs import Signer
from security.policy.documents import PairRecord, Revocation, RoleKeys, sign_trust
from security.policy.floor import Floor
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TRUST
from security.release.index import Index, format_moment, sign_index
from security.release.index import NamedRelease as Named
from storage import registry, tables
from storage.errors import Refused
from storage.lake import Lake, Pin

INDEX = "environments/production/index"


def head(site: Any) -> Pin:
    return registry.head(site.lake, site.pipeline.name)


def standing_index(site: Any) -> Any:
    return Trusted.load(site.keys).newest_index(site.lake, head(site), "production")


def file(site: Any, name: str) -> bytes:
    data: bytes = site.lake.fs.get(site.pipeline.releases, "main", f"{INDEX}/{name}")
    return data


def floor_path(site: Any) -> Any:
    return Trusted.load(site.keys).floors / site.pipeline.releases / "production.json"


def amend(site: Any, **changes: Any) -> None:
    trust = site.policy.trust
    changed = replace(trust, version=trust.version + 1, **changes)
    (site.keys / TRUST).write_bytes(sign_trust(changed, load_signer(site.keys, "root")))


def both_refuse(served: Any, reason: str) -> None:
    """Neither a promotion nor a rollback builds on it."""
    site = served.site
    for attempt in (
        lambda: site.promote(served.old, reason="on top"),
        lambda: site.roll_back("on top", keep_data=True),
    ):
        with pytest.raises(Untrusted, match=reason):
            attempt()


def test_a_lake_taken_back_to_an_older_index_is_refused(served: Any) -> None:
    served.site.overwrite({f"{INDEX}/2.json": None})
    both_refuse(served, r"index 1 is below the floor, 2")


def test_an_index_of_another_pipeline_under_the_same_policy_is_refused(served: Any) -> None:
    """Attack 26: the same releaser signed it for the same environment, of another model."""
    site = served.site
    index = standing_index(site).index
    model = "another"
    other = replace(
        index,
        release=Named(model, 1, index.release.digest, f"models/{model}/1"),
        number=3,
        previous=standing_index(site).digest,
    )
    signed = sign_index(other, load_signer(site.keys, "releaser"))
    site.overwrite({f"{INDEX}/3.json": signed})
    both_refuse(served, "the index names a release of another")
    known = Floor.load(floor_path(site), environment="production")
    assert known.number == 2


def test_pipelines_that_share_keys_have_a_floor_each(served: Any) -> None:
    site = served.site
    trusted = Trusted.load(site.keys)
    first = replace(standing_index(site).index, number=1, previous=None)
    model = "another"
    first = replace(first, release=Named(model, 1, first.release.digest, f"models/{model}/1"))
    envelope = sign_index(first, load_signer(site.keys, "releaser"))
    assert trusted.verify_index(envelope, "production", f"{model}-releases").index.number == 1
    assert site.served() == "2: 2"


def test_a_revoked_releaser_cannot_raise_anybodys_floor(served: Any) -> None:
    """What it signs now can be followed, where it stands, but is forgotten with the file."""
    site = served.site
    thief, last = load_signer(site.keys, "releaser"), standing_index(site)
    done = site.run("keys", "revoke", "releaser", "--reason", "stolen", "--yes")
    assert done.exit_code == 0, (done.output, done.exception)
    high = replace(last.index, number=2**53 - 2, previous=last.digest)
    path = f"{INDEX}/{high.number}.json"
    site.overwrite({path: sign_index(high, thief)})
    with pytest.raises(Untrusted, match="was revoked"):
        standing_index(site)
    seen = newest_index.read_standing_index(
        site.lake, head(site), Trusted.load(site.keys), "production"
    )
    assert seen is not None
    assert seen.index.number == high.number
    site.overwrite({path: None})
    seen = newest_index.read_standing_index(
        site.lake, head(site), Trusted.load(site.keys), "production"
    )
    assert seen is not None
    assert seen.index.number == 2


def test_an_old_index_under_a_new_number_is_refused(served: Any) -> None:
    served.site.overwrite({f"{INDEX}/3.json": file(served.site, "1.json")})
    both_refuse(served, "below the floor|index file 3 holds index 1")


def test_without_a_floor_the_policys_minimum_refuses_an_old_index(served: Any) -> None:
    site = served.site
    amend(site, minimum_index={"production": 2})
    floor_path(site).unlink()
    site.overwrite({f"{INDEX}/2.json": None})
    both_refuse(served, r"index 1 is below the floor, 2")


def test_another_index_of_the_same_number_is_refused(served: Any) -> None:
    site = served.site
    now = standing_index(site).index
    other = replace(now, reason="another history")
    site.overwrite({f"{INDEX}/2.json": sign_index(other, load_signer(site.keys, "releaser"))})
    both_refuse(served, "two different indexes numbered 2")


def test_an_index_that_does_not_follow_the_one_seen_is_refused(served: Any) -> None:
    site = served.site
    now = standing_index(site).index
    forged = replace(now, number=3, previous="00" * 32)
    site.overwrite({f"{INDEX}/3.json": sign_index(forged, load_signer(site.keys, "releaser"))})
    both_refuse(served, "does not follow the index seen before it")


def test_an_index_for_another_environment_is_refused(served: Any) -> None:
    site = served.site
    site.overwrite({"environments/staging/index/1.json": file(site, "1.json")})
    with pytest.raises(Untrusted, match="for production, not staging"):
        Trusted.load(site.keys).newest_index(site.lake, head(site), "staging")


def test_a_frozen_index_stops_promotion_until_it_has_a_timestamp_and_not_rollback(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = served.site
    monkeypatch.setattr(newest_index, "GRACE", timedelta(seconds=-1))
    with pytest.raises(Untrusted, match="index 2 of production has no timestamp") as refusal:
        site.promote(served.old, reason="again")
    assert "promotion waits" in refusal.value.remedy
    assert site.timestamp()
    assert site.promote(served.old, reason="again").index == 3
    assert site.roll_back("back", to=served.new, keep_data=True).index == 4


def test_an_expired_timestamp_stops_promotion_until_it_is_signed_anew(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = served.site
    with monkeypatch.context() as short:
        short.setattr(timestamp, "LIFETIME", timedelta(0))
        assert site.timestamp()
    with pytest.raises(Untrusted, match="timestamp expired at"):
        site.promote(served.old, reason="again")
    assert site.served() == "2: 2"


def test_a_clock_set_back_is_noticed(served: Any) -> None:
    path = floor_path(served.site)
    floor = Floor.load(path, environment="production")
    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    replace(floor, seen_s=tomorrow).save(path)
    both_refuse(served, "the clock says")


def test_after_a_revocation_the_way_out_is_a_promotion(served: Any) -> None:
    site = served.site
    stolen = load_signer(site.keys, "releaser")
    fast = Index(
        environment="production",
        number=1000,
        release=Named(**vars(standing_index(site).index.release)),
        actor="eve",
        reason="fast-forwarded",
        created=format_moment(datetime.now(UTC)),
        previous="00" * 32,
    )
    site.overwrite({f"{INDEX}/1000.json": sign_index(fast, stolen)})
    new, trust = Signer.generate("releaser"), site.policy.trust
    replace_private(site.keys / "releaser", new.private_halves(), None)
    amend(
        site,
        epoch=trust.epoch + 1,
        roles={**trust.roles, "releaser": RoleKeys((PairRecord.of(new.public),))},
        revoked=(Revocation(trust.roles["releaser"].keys[0], "stolen", role="releaser"),),
    )
    with pytest.raises(Untrusted, match="was revoked"):
        standing_index(site)
    ref = site.register(site.land("N9"))
    assert site.promote(ref, reason="after the theft").index == 1001
    assert site.served() == "1001: 3"


def test_of_promotions_at_once_one_wins_and_the_others_are_told_who(served: Any) -> None:
    site = served.site
    third = site.register(site.land("N4"))
    told: list[str] = []

    def run(action: Callable[[], Any]) -> None:
        try:
            action()
            told.append("won")
        except Refused as error:
            told.append(str(error))

    race = [
        threading.Thread(target=run, args=(action,))
        for action in (
            lambda: site.promote(third, reason="race"),
            lambda: site.promote(served.old, reason="race"),
        )
    ]
    for one in race:
        one.start()
    for one in race:
        one.join()
    numbers = registry.index_numbers(site.lake, head(site), "production")
    assert numbers == list(range(1, 3 + told.count("won")))
    assert all(
        text == "won" or "serve wrote index 3 of production meanwhile" in text for text in told
    )
    assert "won" in told


def test_a_release_trained_on_another_branch_is_no_way_back_and_nothing_changes(
    served: Any,
) -> None:
    site, lake = served.site, served.site.lake
    repository = site.pipeline.repository
    lake.fs.create_branch(repository, "mine", source="main")
    lake.fs.put(repository, "mine", "notes/a.txt", b"a change of this branch alone")
    elsewhere = Pin(repository, lake.fs.commit(repository, "mine", message="x", metadata={}))
    table = tables.open_table(Lake(lake.access), repository, "mine", "planes")
    table.delete("tailnum = 'N1'")
    elsewhere = Pin(repository, lake.fs.commit(repository, "mine", message="y", metadata={}))
    ref = site.register(elsewhere)
    heads = head(site), lake.pin(repository)
    with pytest.raises(Refused, match="not an earlier version"):
        site.roll_back("to the branch", to=ref)
    assert (head(site), lake.pin(repository)) == heads
    assert site.served() == "2: 2"
    assert site.rows() == {"N1", "N2", "N3"}
