"""`headrace lake keys`: made, shown once, listed without its secret, revoked."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import assemble
from flows.errors import Misconfigured
from storage.embedded.keys.keyring import Keyring
from storage.errors import NotFound, Refused


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("HEADRACE_", "LAKEFS_", "LAKECTL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_ROOT", str(tmp_path))
    return tmp_path / ".headrace"


def run(*words: str) -> str:
    done = CliRunner().invoke(assemble(), ["lake", "keys", *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_key_is_made_listed_and_revoked(home):
    made = json.loads(
        run("create", "reader", "--read", "flights*", "--write", "flights/landing", "--json")
    )
    assert made["grants"] == ["read:flights*", "write:flights/landing"]
    found = Keyring(home / "lake").find(made["access_key_id"])
    assert found.secret == made["secret_access_key"]
    shown = run("list")
    assert made["access_key_id"] in shown
    assert "read:flights* write:flights/landing" in shown
    listed = run("list", "--json")
    assert json.loads(listed)[0]["grants"] == made["grants"]
    assert made["secret_access_key"] not in shown + listed
    assert "revoked" in run("revoke", "reader")
    assert json.loads(run("list", "--json")) == []


def test_what_cannot_be_is_refused_with_a_remedy(home):
    for words in (
        ("create", "x"),
        ("create", "x", "--read", "a b"),
        ("create", "x y", "--read", "*"),
    ):
        with pytest.raises(Refused) as caught:
            run(*words)
        assert caught.value.remedy
    with pytest.raises(NotFound):
        run("revoke", "nobody")
    assert json.loads(run("list", "--json")) == []


def test_the_keys_of_another_lakefs_are_not_ours_to_make(home, monkeypatch):
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://lake.example")
    with pytest.raises(Misconfigured, match=r"lake\.example"):
        run("create", "reader", "--read", "*")
