import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flows.audit import read_log
from flows.keys.published_policy import publish_policy, read_published_policy
from security.errors import Untrusted
from security.policy.edition import change_rules, change_trust, load_policy
from security.policy.key_homes import init_keys, load_signer
from security.policy.root_and_recipients import rotate_root
from storage.errors import Refused
from tests.release_site import Site


def edit_rules(keys: Path, clean: bool | None = True) -> None:
    signer = load_signer(keys, "policy")
    change_rules(keys, lambda rules: replace(rules, require_clean_code=clean), signer=signer)


def edit_trust(keys: Path, **minimum: int) -> None:
    root = load_signer(keys, "root")
    change_trust(keys, lambda trust: replace(trust, minimum_index=minimum), root=root)


def read(site: Site):  # type: ignore[no-untyped-def]
    root = load_policy(site.keys).root
    return read_published_policy(site.lake, site.context().pin_releases(), root)


def test_a_policy_is_published_once_and_told(site: Site) -> None:
    assert read(site) is None
    for _ in range(2):
        assert publish_policy(site.context("ana")).edition == (1, 1, 1)
    assert read(site).digests == load_policy(site.keys).digests
    entries = read_log(site.lake, site.context().pin_releases()).entries
    told = [one.subject for one in entries if one.kind == "policy.published"]
    assert told == ["policy/trust.dsse.json", "policy/rules.dsse.json"]
    assert {one.actor for one in entries} == {"ana"}


def test_the_next_edition_follows_and_an_earlier_one_does_not(site: Site, tmp_path: Path) -> None:
    old = replace(site, keys=Path(shutil.copytree(site.keys, tmp_path / "old" / "keys")))
    publish_policy(site.context())
    edit_rules(site.keys)
    assert publish_policy(site.context()).edition == (1, 1, 2)
    with pytest.raises(Refused) as caught:
        publish_policy(old.context())
    assert str(caught.value) == "The policy here is edition 1.1.1, the published one is 1.1.2."
    assert "headrace keys pin" in caught.value.remedy
    assert read(site).edition == (1, 1, 2)


def test_one_number_names_one_policy(site: Site, tmp_path: Path) -> None:
    other = replace(site, keys=Path(shutil.copytree(site.keys, tmp_path / "b" / "keys")))
    edit_trust(site.keys, production=1)
    edit_trust(other.keys, production=2)
    publish_policy(site.context())
    with pytest.raises(Refused, match=r"here is edition 1\.2\.1, the published one is 1\.2\.1"):
        publish_policy(other.context())


def test_no_part_of_an_edition_goes_back(site: Site, tmp_path: Path) -> None:
    """Newer rules do not make up for an older trust."""
    other = replace(site, keys=Path(shutil.copytree(site.keys, tmp_path / "b" / "keys")))
    edit_trust(site.keys, production=1)
    publish_policy(site.context())
    edit_rules(other.keys)
    with pytest.raises(Refused, match=r"here is edition 1\.1\.2, the published one is 1\.2\.1"):
        publish_policy(other.context())


def test_another_roots_policy_is_not_taken_nor_replaced(site: Site, tmp_path: Path) -> None:
    publish_policy(site.context())
    stranger = replace(site, keys=init_keys(tmp_path / "b" / "keys").folder)
    with pytest.raises(Untrusted, match="The policy in flights-releases does not hold") as caught:
        read(stranger)
    assert "root.json" in caught.value.remedy
    with pytest.raises(Untrusted, match="does not hold"):
        publish_policy(stranger.context())


def test_a_new_roots_first_edition_follows_what_the_old_root_signed(site: Site) -> None:
    publish_policy(site.context())
    rotate_root(site.keys, root=load_signer(site.keys, "root"))
    with pytest.raises(Untrusted):
        read(site)
    assert publish_policy(site.context()).edition == (1, 2, 1)
    assert read(site).edition == (1, 2, 1)
