"""Access keys: what a grant covers, how the ring keeps secrets, who is let in."""

import base64
import json
import os
import stat
import subprocess
import sys

import apsw
import pytest

from storage.embedded.errors import Exists, Unauthenticated
from storage.embedded.keys import keyring
from storage.embedded.keys.access_keys import EVERYTHING, Grant, Key, Right
from storage.embedded.keys.keyring import Keyring
from storage.embedded.keys.sessions import Credentials, LakeKeys, authenticate, issue_token
from storage.embedded.rest.grants import check_route
from storage.errors import Damaged, NotFound, Refused, Unavailable

READ, WRITE = Right.READ, Right.WRITE


def key(*grants: str) -> Key:
    return Key("AKIAX", "someone", "secret", tuple(Grant.parse(text) for text in grants))


@pytest.mark.parametrize(
    ("grant", "right", "repository", "ref", "covered"),
    [
        ("read:flights", READ, "flights", None, True),
        ("read:flights", WRITE, "flights", None, False),
        ("write:flights", READ, "flights", None, True),
        ("read:flights", READ, "flights-releases", None, False),
        ("read:flights*", READ, "flights-releases", "main", True),
        ("write:flights/landing", WRITE, "flights", "landing", True),
        ("write:flights/landing", READ, "flights", "landing@", True),
        ("write:flights/landing", WRITE, "flights", None, False),
        ("write:flights/landing", READ, "flights", "main", False),
        ("write:flights/landing", READ, "flights", "landing~1", False),
        ("read:flights/run-*", READ, "flights", "run-train-1", True),
        ("read:flights/run-*", READ, "flights", "run-train-1~3", False),
        ("read:flights/run-*", READ, "flights", "run-train-1@@", False),
        ("read:flights/*-2024", READ, "flights", "main~-2024", False),
        ("read:flights/*2", READ, "flights", "main^2", False),
        ("read:flights/*a*", READ, "flights", "ab" * 32, False),
        ("read:flights/FE*", READ, "flights", "FEDC01", False),
        ("read:flights/?", READ, "flights", "a", False),
    ],
)
def test_a_grant_covers_what_it_names_and_no_more(grant, right, repository, ref, covered):
    assert key(grant).may(right, repository, ref) is covered


@pytest.mark.parametrize("text", ["", "flights", "all:flights", "read:", "read:a b", "write:a/b/c"])
def test_what_is_not_a_grant_is_refused_with_the_form(text):
    with pytest.raises(Refused) as caught:
        Grant.parse(text)
    assert "read:PATTERN" in caught.value.remedy


REPOSITORY = "/repositories/{repository}"


@pytest.mark.parametrize(
    ("method", "route", "named", "allowed"),
    [
        ("GET", "/config", {}, True),
        ("POST", "/auth/users", {}, False),
        ("GET", REPOSITORY, {"repository": "flights"}, True),
        ("GET", REPOSITORY, {"repository": "other"}, False),
        ("DELETE", REPOSITORY, {"repository": "flights"}, False),
        ("GET", f"{REPOSITORY}/branches", {"repository": "flights"}, False),
        ("GET", f"{REPOSITORY}/branches", {"repository": "flights-releases"}, True),
        (
            "POST",
            f"{REPOSITORY}/branches/{{branch}}/objects",
            {"repository": "flights", "branch": "landing"},
            True,
        ),
        (
            "POST",
            f"{REPOSITORY}/branches/{{branch}}/objects/copy",
            {"repository": "flights", "branch": "landing"},
            False,
        ),
        (
            "POST",
            f"{REPOSITORY}/refs/{{ref}}/merge/{{branch}}",
            {"repository": "flights", "ref": "main", "branch": "landing"},
            False,
        ),
        (
            "GET",
            f"{REPOSITORY}/refs/{{ref}}/objects",
            {"repository": "flights", "ref": "main"},
            False,
        ),
        ("GET", f"{REPOSITORY}/not/thought/of/yet", {"repository": "flights"}, False),
    ],
)
def test_a_narrow_key_passes_only_the_routes_inside_its_grants(method, route, named, allowed):
    narrow = key("write:flights/landing", "read:flights-releases")
    if allowed:
        check_route(narrow, method, route, named)
        return
    with pytest.raises(Unauthenticated, match="insufficient permissions"):
        check_route(narrow, method, route, named)


def test_a_key_is_found_again_by_another_process_and_gone_once_revoked(tmp_path):
    here, there = Keyring(tmp_path / "lake"), Keyring(tmp_path / "lake")
    assert there.find("AKIANOBODY") is None
    made = here.create("reader", (Grant.parse("read:flights"),))
    assert there.find(made.id) == made
    here.revoke("reader")
    assert there.find(made.id) is None
    with pytest.raises(NotFound):
        here.revoke("reader")


def test_a_name_is_given_once_and_a_key_opens_something(tmp_path):
    ring = Keyring(tmp_path / "lake")
    ring.create("reader", EVERYTHING)
    with pytest.raises(Exists):
        ring.create("reader", EVERYTHING)
    with pytest.raises(Refused):
        ring.create("useless", ())
    with pytest.raises(Refused):
        ring.create("two\nlines", EVERYTHING)


def test_the_files_hold_no_secret_and_are_the_owners_alone(tmp_path):
    root = tmp_path / "lake"
    ring = Keyring(root)
    secret = ring.create("reader", EVERYTHING).secret
    ring.close()
    seal = tmp_path / "lake.key"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root / "keys.sqlite", seal)] == [
        0o600
    ] * 2
    for path in (*root.iterdir(), seal):
        assert secret.encode() not in path.read_bytes()


def test_a_stolen_database_without_its_key_file_opens_nothing(tmp_path):
    made = Keyring(tmp_path / "lake").create("reader", EVERYTHING)
    (tmp_path / "lake.key").write_bytes(os.urandom(32))
    with pytest.raises(Damaged, match=r"lake\.key"):
        Keyring(tmp_path / "lake").find(made.id)
    (tmp_path / "lake.key").unlink()
    with pytest.raises(Damaged, match="is missing"):
        Keyring(tmp_path / "lake").check()
    assert not (tmp_path / "lake.key").exists()


def test_a_key_widened_in_the_file_is_refused(tmp_path):
    made = Keyring(tmp_path / "lake").create("reader", (Grant.parse("read:flights"),))
    rows = apsw.Connection(str(tmp_path / "lake" / "keys.sqlite"))
    rows.execute("UPDATE access_key SET grants = ?", (json.dumps(["write:*"]),))
    with pytest.raises(Damaged, match="was changed"):
        Keyring(tmp_path / "lake").find(made.id)


def test_a_key_file_that_others_can_read_is_refused(tmp_path):
    Keyring(tmp_path / "lake").create("reader", EVERYTHING)
    (tmp_path / "lake.key").chmod(0o640)
    with pytest.raises(Refused) as caught:
        Keyring(tmp_path / "lake").check()
    assert "chmod 600" in caught.value.remedy


def test_a_ring_that_another_process_keeps_locked_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(keyring, "BUSY_MS", 10)
    made = Keyring(tmp_path / "lake").create("reader", EVERYTHING)
    other = apsw.Connection(str(tmp_path / "lake" / "keys.sqlite"))
    other.execute("BEGIN EXCLUSIVE")
    ring = Keyring(tmp_path / "lake")
    for work in (lambda: ring.find(made.id), lambda: ring.create("another", EVERYTHING)):
        with pytest.raises(Unavailable, match="locked"):
            work()
    other.execute("ROLLBACK")
    assert ring.find(made.id) == made
    other.close()


def test_the_last_use_is_noted(tmp_path):
    ring = Keyring(tmp_path / "lake")
    made = ring.create("reader", EVERYTHING)
    assert ring.list_keys()[0].used_s is None
    keys = LakeKeys(Keyring(tmp_path / "lake"), None)
    keys.admit(made.id, made.secret)
    keys.close()
    assert ring.list_keys()[0].used_s >= ring.list_keys()[0].created_s


def test_a_token_lives_as_long_as_its_key(tmp_path):
    ring = Keyring(tmp_path / "lake")
    made = ring.create("reader", EVERYTHING)
    keys = LakeKeys(ring, Credentials("AKIAENV", "of the environment"))
    token, _ = issue_token(made)
    assert authenticate(keys, f"Bearer {token}") == made
    odd = base64.urlsafe_b64encode(rb'{"key": "\ud800"}').decode()
    for wrong in (token[:-2], f"{token}x", "a.b.c", "", "null.null.null", "." * 4000, f"a.{odd}.c"):
        with pytest.raises(Unauthenticated):
            authenticate(keys, f"Bearer {wrong}")
    ring.revoke("reader")
    with pytest.raises(Unauthenticated):
        authenticate(keys, f"Bearer {token}")


def test_the_environments_key_needs_no_ring(tmp_path):
    keys = LakeKeys(Keyring(tmp_path / "lake"), Credentials("AKIAENV", "secret"))
    assert keys.admit("AKIAENV", "secret").is_admin
    for wrong in [("AKIAENV", "Secret"), ("AKIAENV", ""), ("", ""), ("", "no such key")]:
        with pytest.raises(Unauthenticated):
            keys.admit(*wrong)
    assert not (tmp_path / "lake.key").exists()


def test_a_secret_is_in_no_repr(tmp_path):
    made = Keyring(tmp_path / "lake").create("reader", EVERYTHING)
    assert made.secret not in f"{made!r} {made} {Credentials('id', made.secret)!r}"


def test_the_first_key_is_left_in_a_private_file_when_no_terminal_can_show_it(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFS_")}
    command = [sys.executable, "-m", "storage.embedded", "--root", str(tmp_path / "lake")]

    def start():
        server = subprocess.Popen(
            [*command, "--port", "0"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.stdout.readline()
        server.terminate()
        return server.communicate(timeout=60)[1]

    said = start()
    path = tmp_path / "lake.first-key.json"
    told = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in said
    assert told["secret_access_key"] not in said
    found = Keyring(tmp_path / "lake").find(told["access_key_id"])
    assert (found.secret, found.is_admin) == (told["secret_access_key"], True)
    path.unlink()
    assert start() == ""
    assert not path.exists()
