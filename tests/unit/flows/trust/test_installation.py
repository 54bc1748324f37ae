from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import Misconfigured
from flows.trust.installation import Trusted, local_policy, require_own_releases
from security.errors import Untrusted
from security.policy.edition import change_trust
from security.policy.floor import Floor
from security.policy.key_homes import init_keys, load_signer
from security.release.index import Canary, Index, NamedRelease, VerifiedIndex, sign_index
from tests.release_site import Site

REPOSITORY = "flights-releases"


def named(version: int, model: str = "flights") -> NamedRelease:
    return NamedRelease(model, version, f"{version:02x}" * 32, f"models/{model}/{version}")


def index_of(number: int, previous: str | None, version: int = 1) -> Index:
    return Index(
        environment="production",
        number=number,
        release=named(version),
        actor="ana",
        reason="-",
        created="2013-07-01T00:00:00Z",
        previous=previous,
    )


@pytest.fixture(scope="module")
def chain(key_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Five indexes of one history, each signed by the releaser."""
    signer, envelopes, previous = load_signer(key_home, "releaser"), [], None
    trusted = replace(Trusted.load(key_home), floors=tmp_path_factory.mktemp("floors"))
    for number in range(1, 6):
        envelopes.append(sign_index(index_of(number, previous), signer))
        previous = trusted.verify_index(envelopes[-1], "production", REPOSITORY).digest
    return envelopes


def floor(trusted: Trusted, repository: str = REPOSITORY) -> int:
    path = trusted.floors / repository / "production.json"
    return int(Floor.load(path, environment="production").number)


@pytest.fixture(scope="module")
def loaded(key_home: Path) -> Trusted:
    return Trusted.load(key_home)


@settings(max_examples=10)
@given(offered=st.lists(st.integers(1, 5), max_size=5))
def test_a_floor_never_goes_back(
    chain: list[bytes],
    loaded: Trusted,
    tmp_path_factory: pytest.TempPathFactory,
    offered: list[int],
) -> None:
    trusted = replace(loaded, floors=tmp_path_factory.mktemp("floors"))
    highest = 0
    for number in offered:
        if number < highest:
            with pytest.raises(Untrusted, match=f"index {number} is below the floor, {highest}"):
                trusted.verify_index(chain[number - 1], "production", REPOSITORY)
        else:
            found = trusted.verify_index(chain[number - 1], "production", REPOSITORY)
            assert found.index.number == number
        highest = max(highest, number)
        assert floor(trusted) == highest


def test_each_repository_has_a_floor_of_its_own(site: Site, chain: list[bytes]) -> None:
    trusted = Trusted.load(site.keys)
    trusted.verify_index(chain[3], "production", REPOSITORY)
    assert (floor(trusted), floor(trusted, "other-releases")) == (4, 0)
    with pytest.raises(Untrusted, match="names a release of flights, in other-releases"):
        trusted.verify_index(chain[0], "production", "other-releases")
    assert floor(trusted, "other-releases") == 0


def test_a_look_that_is_not_remembered_is_judged_by_the_floor(
    site: Site, chain: list[bytes]
) -> None:
    trusted = Trusted.load(site.keys)
    trusted.verify_index(chain[1], "production", REPOSITORY)
    trusted.verify_index(chain[4], "production", REPOSITORY, remember=False)
    assert floor(trusted) == 2
    with pytest.raises(Untrusted, match="below the floor"):
        trusted.verify_index(chain[0], "production", REPOSITORY, remember=False)


def test_a_floor_that_is_damaged_is_not_a_low_one(site: Site, chain: list[bytes]) -> None:
    trusted = Trusted.load(site.keys)
    trusted.verify_index(chain[4], "production", REPOSITORY)
    (trusted.floors / REPOSITORY / "production.json").write_bytes(b"")
    with pytest.raises(Untrusted):
        trusted.verify_index(chain[0], "production", REPOSITORY)


def test_the_newest_index_is_the_one_of_the_highest_number(site: Site, chain: list[bytes]) -> None:
    trusted, fs = Trusted.load(site.keys), site.lake.fs
    assert newest(site, trusted) is None
    put(site, {10: chain[1], 2: chain[0]})
    with pytest.raises(Untrusted, match="index file 10 holds index 2"):
        newest(site, trusted)
    site.overwrite({"environments/production/index/10.json": None})
    put(site, {1: chain[0], 2: chain[1]})
    found = newest(site, Trusted.load(site.keys))
    assert found is not None
    assert found.index.number == 2
    pin = site.lake.pin(REPOSITORY)
    assert trusted.timestamp(site.lake, pin, "production", 2) is None
    site.overwrite({"environments/production/index/2.timestamp.json": b"stamp"})
    pin = site.lake.pin(REPOSITORY)
    assert trusted.timestamp(site.lake, pin, "production", 2) == b"stamp"
    assert fs.repositories() == ["flights", REPOSITORY]


def test_before_keys_are_made_nothing_is_trusted(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        Trusted.load(tmp_path)
    assert str(caught.value) == f"There are no keys in {tmp_path}."
    assert "headrace keys init" in caught.value.remedy


def test_floors_lie_beside_the_keys_and_the_policy_is_the_roots(keys: Path, tmp_path: Path) -> None:
    trusted = Trusted.load(keys)
    assert (trusted.keys, trusted.floors) == (keys, keys.parent / "floors")
    other = init_keys(tmp_path / "other").folder
    (keys / "trust.dsse.json").write_bytes((other / "trust.dsse.json").read_bytes())
    with pytest.raises(Untrusted):
        Trusted.load(keys)


def test_a_policy_older_than_one_used_here_is_refused(site: Site, chain: list[bytes]) -> None:
    old = Trusted.load(site.keys)
    root = load_signer(site.keys, "root")
    change_trust(site.keys, lambda trust: replace(trust, minimum_index={"x": 1}), root=root)
    Trusted.load(site.keys).verify_index(chain[0], "production", REPOSITORY)
    with pytest.raises(Untrusted, match="policy is older than one already used"):
        old.verify_index(chain[0], "production", REPOSITORY)


def test_every_release_that_an_index_names_is_the_pipelines_own() -> None:
    index = index_of(1, None)
    require_own_releases(index, REPOSITORY)
    for odd in (
        replace(index, release=named(1, "other")),
        replace(index, canary=Canary(named(2, "other"), 5)),
        replace(index, shadow=named(3, "other")),
    ):
        with pytest.raises(Untrusted, match="names a release of other, in flights-releases"):
            require_own_releases(odd, REPOSITORY)


def test_a_folder_without_a_policy_has_none(keys: Path) -> None:
    assert local_policy(keys) is not None
    (keys / "rules.dsse.json").unlink()
    with pytest.raises(Exception, match="rules"):
        local_policy(keys)
    (keys / "trust.dsse.json").unlink()
    assert local_policy(keys) is None


def newest(site: Site, trusted: Trusted) -> VerifiedIndex | None:
    return trusted.newest_index(site.lake, site.lake.pin(REPOSITORY), "production")


def put(site: Site, files: dict[int, bytes]) -> None:
    folder = "environments/production/index"
    site.overwrite({f"{folder}/{number}.json": data for number, data in files.items()})
