"""What a service finds in the releases repository, at one commit and unverified."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.service.models.offer import Source
from storage.errors import NotFound
from storage.lake import Lake
from tests.served_house import ENVIRONMENT, House, house

__all__ = ["house"]


def source(house: House) -> Source:
    return Source(house.lake, house.name, ENVIRONMENT)


def test_there_is_no_offer_before_the_first_index(house: House) -> None:
    house.register(0.25)
    assert source(house).newest(source(house).head()) is None


def test_the_newest_index_is_offered_as_of_the_commit_asked_for(house: House) -> None:
    version, now = house.register(0.25), datetime.now(UTC)
    house.index(version)
    earlier = source(house).head()
    house.index(version, expires=now + timedelta(days=1))
    first, second = source(house).newest(earlier), source(house).newest(source(house).head())
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert (first.timestamp is None, second.timestamp is None) == (True, False)
    assert first.envelope != second.envelope
    assert first.pin.commit == earlier


def test_a_policy_counts_as_published_only_with_both_its_documents(house: House) -> None:
    house.index(house.register(0.25))
    trust, rules = (
        (house.keys / name).read_bytes() for name in ("trust.dsse.json", "rules.dsse.json")
    )
    house.overwrite({"policy/trust.dsse.json": trust})
    half = source(house).newest(source(house).head())
    house.overwrite({"policy/rules.dsse.json": rules})
    whole = source(house).newest(source(house).head())
    assert half is not None
    assert whole is not None
    assert (half.policy, whole.policy) == (None, (trust, rules))


def test_a_release_is_fetched_into_a_folder_that_nobody_else_can_read(
    house: House, tmp_path: Path
) -> None:
    house.index(house.register(0.25))
    offer = source(house).newest(source(house).head())
    assert offer is not None
    folder = source(house).fetch(offer, f"models/{house.name}/1", tmp_path / "release")
    assert (tmp_path / "release").stat().st_mode & 0o777 == 0o700
    assert (folder / "release.dsse.json").is_file()


def test_a_pipeline_without_repositories_has_no_head(lake: Lake) -> None:
    with pytest.raises(NotFound):
        Source(lake, "t-nothing-here", ENVIRONMENT).head()
