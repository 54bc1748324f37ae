"""What a service loads from a lake and what it refuses, with really signed and sealed releases."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.service.models.admit import Admission
from flows.service.models.offer import Source
from security.errors import BadKey, Untrusted
from security.keys.pairs import Signer
from security.policy.documents import PairRecord, Revocation, RoleKeys, sign_trust
from security.policy.key_homes import load_signer
from tests.served_house import (
    ENVIRONMENT,
    House,
    admitted,
    flip_last_byte,
    house,
    strip_one_signature,
)
from tests.tiny_model import ROW

__all__ = ["house"]


def admission(house: House) -> Admission:
    return Admission(
        environment=ENVIRONMENT, keys=house.keys, folder=house.folder / "serve", key="trip"
    )


def test_what_the_index_names_is_loaded_and_answers(house: House) -> None:
    house.index(house.register(0.25))
    loaded = admitted(house).loaded
    assert (loaded.index, loaded.champion.release) == (1, f"{house.name}/1")
    assert loaded.index_digest == house.indexes[1].digest
    assert loaded.champion.score([ROW, ROW], inline=True) == [0.25, 0.25]
    assert [path for path in (house.folder / "serve").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("tamper", "step"),
    [
        (lambda release: strip_one_signature(release / "provenance.dsse.json"), "release, step "),
        (
            lambda release: flip_last_byte(release / "payload" / "encoding.json.sealed"),
            "release, step ",
        ),
        (lambda release: (release / "card.md").write_text("# Forged\n"), "release, step "),
    ],
)
def test_a_release_that_was_changed_is_refused_and_nothing_of_it_stays(
    house: House, tamper: Callable[[Path], object], step: str
) -> None:
    house.index(house.register(0.25, tamper=lambda release: (tamper(release), None)[1]))
    judge, source = admission(house), Source(house.lake, house.name, ENVIRONMENT)
    offer = source.newest(source.head())
    assert offer is not None
    with pytest.raises(Untrusted):
        judge.admit(source, offer)
    assert judge.step.startswith(step)
    assert judge.release == f"{house.name}/1"
    assert [path for path in (house.folder / "serve").iterdir() if path.is_dir()] == []


def test_keys_that_cannot_be_used_are_found_before_anything_is_offered(house: House) -> None:
    admission(house).check_keys()
    (house.keys / "serving" / "x25519.pem").chmod(0o644)
    with pytest.raises(BadKey, match="can be read by others"):
        admission(house).check_keys()
    (house.keys / "root.json").unlink()
    with pytest.raises(Misconfigured, match="there are no keys"):
        admission(house).check_keys()


def test_what_a_killed_process_left_decrypted_is_cleared(house: House) -> None:
    left = house.folder / "serve" / "admit-left"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"plain")
    admission(house).clear()
    assert not left.exists()


def test_a_changed_local_policy_changes_the_stamp(house: House) -> None:
    judge = admission(house)
    before = judge.policy_stamp()
    assert judge.policy_stamp() == before
    strip_one_signature(house.keys / "trust.dsse.json")
    assert judge.policy_stamp() != before


def test_an_index_without_a_timestamp_speaks_for_itself_for_a_day_only(house: House) -> None:
    version, now = house.register(0.25), datetime.now(UTC)
    house.index(version, created=now - timedelta(hours=23))
    assert admitted(house).stale == ""
    house.index(version, created=now - timedelta(hours=25))
    with pytest.raises(Untrusted, match="index 2 has no timestamp"):
        admitted(house)


def test_an_expired_timestamp_stops_a_fresh_replica_and_alarms_one_that_knew_the_index(
    house: House,
) -> None:
    hour, now = timedelta(hours=1), datetime.now(UTC)
    until = now + hour
    house.index(house.register(0.25), created=now - 2 * hour, expires=until)
    known = admitted(house)
    assert known.stale == ""
    assert known.fresh_until == until.replace(microsecond=0)
    house.stamp(1, created=now - 2 * hour, expires=now - hour)
    assert "timestamp expired" in admitted(house).stale
    with pytest.raises(Untrusted, match="timestamp expired"):
        admitted(house, folder="another replica")


def test_an_index_under_another_number_than_its_own_is_refused(house: House) -> None:
    house.index(house.register(0.25))
    first = house.lake.fs.get(
        f"{house.name}-releases", "main", f"environments/{ENVIRONMENT}/index/1.json"
    )
    house.publish(lambda number, _: {f"{number}.json": first})
    with pytest.raises(Untrusted, match="index file 2 holds index 1"):
        admitted(house)


def test_a_release_whose_name_was_given_to_another_is_refused(house: House) -> None:
    good = house.register(0.25)
    house.index(good)
    house.signed[good] = replace(house.signed[good], reason="another")
    house.index(good)
    with pytest.raises(Untrusted, match="not the one that the index names"):
        admitted(house)


def test_a_published_policy_that_revokes_the_releaser_is_obeyed(house: House) -> None:
    house.index(house.register(0.25))
    assert admitted(house).loaded.champion.release == f"{house.name}/1"
    releaser = load_signer(house.keys, "releaser").public
    heir = RoleKeys((PairRecord.of(Signer.generate("releaser").public),))
    trust = house.policy.trust
    trust = replace(
        trust,
        version=trust.version + 1,
        roles={**trust.roles, "releaser": heir},
        revoked=(Revocation(PairRecord.of(releaser), "left the house"),),
    )
    house.overwrite(
        {
            "policy/trust.dsse.json": sign_trust(trust, load_signer(house.keys, "root")),
            "policy/rules.dsse.json": (house.keys / "rules.dsse.json").read_bytes(),
        }
    )
    with pytest.raises(Untrusted, match="was revoked"):
        admitted(house)
