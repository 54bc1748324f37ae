import shutil
from pathlib import Path

import pytest

from flows.keys.key_table import ListedKey, list_keys
from security.errors import Untrusted
from security.keys.pairs import Signer
from security.policy.edition import load_policy
from security.policy.key_homes import load_signer
from security.policy.role_keys import Retirement, enrol, retire

ROLES = ["policy", "trainer", "gatekeeper", "releaser", "timestamp"]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_ROLES", raising=False)


def of_role(home: Path, role: str) -> list[ListedKey]:
    return [one for one in list_keys(home) if one.role == role]


def test_the_root_comes_first_and_every_key_says_where_it_is(keys: Path) -> None:
    found = list_keys(keys)
    assert found[0].role == "root"
    assert (found[0].state, found[0].since, found[0].id) == (
        "pinned",
        None,
        load_policy(keys).root.key_id,
    )
    others = [one.role for one in found[1:]]
    assert sorted(others) == sorted([*ROLES, "serving", "gatekeeper-recipient"])
    assert {one.state for one in found[1:]} == {"enrolled"}
    assert {one.source for one in found} == {f"file:{keys}"}
    created = load_policy(keys).trust.created
    assert {one.since for one in found[1:]} == {created}
    suites = {one.role: one.algorithms for one in found}
    assert suites["serving"] == suites["gatekeeper-recipient"] != suites["gatekeeper"]


def test_a_key_that_is_elsewhere_has_no_source(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(keys / "root")
    shutil.rmtree(keys / "serving")
    assert of_role(keys, "root")[0].source is None
    assert of_role(keys, "serving")[0].source is None
    monkeypatch.setenv("HEADRACE_ROLES", "trainer")
    held = {one.role for one in list_keys(keys) if one.source}
    assert held == {"trainer"}


def test_of_two_keys_of_a_role_only_the_one_at_hand_has_a_source(keys: Path) -> None:
    second = Signer.generate("releaser")
    enrol(keys, second.public, "releaser", root=load_signer(keys, "root"))
    first = load_signer(keys, "releaser").public.key_id
    assert {one.id: one.source for one in of_role(keys, "releaser")} == {
        first: f"file:{keys}",
        second.public.key_id: None,
    }


def test_what_was_revoked_or_retired_says_why_and_since_when(keys: Path) -> None:
    root, cut_off = load_signer(keys, "root"), "2013-07-01T00:00:00Z"
    stolen = load_signer(keys, "trainer").public.key_id
    old = load_signer(keys, "releaser").public.key_id
    retire(keys, "trainer", root=root, retirement=Retirement("stolen"))
    kept = ("ab" * 32, "cd" * 32)
    retire(keys, "releaser", root=root, retirement=Retirement("yearly", cut_off, kept))
    gone = {one.id: one for one in list_keys(keys) if one.state in {"revoked", "retired"}}
    assert gone.keys() == {stolen, old}
    assert (gone[stolen].state, gone[stolen].reason, gone[stolen].kept) == ("revoked", "stolen", 0)
    assert (gone[old].state, gone[old].cut_off, gone[old].kept) == ("retired", cut_off, 2)
    assert [(one.role, one.source) for one in gone.values()] == [
        ("trainer", None),
        ("releaser", None),
    ]
    assert {one.state for one in of_role(keys, "trainer")} == {"enrolled", "revoked"}


def test_a_policy_that_does_not_hold_is_not_listed(keys: Path) -> None:
    (keys / "rules.dsse.json").write_bytes(b"{}")
    with pytest.raises(Untrusted):
        list_keys(keys)
