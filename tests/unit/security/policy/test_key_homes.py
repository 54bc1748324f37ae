import copy
import logging
import pickle
import resource
import shutil
import stat
import traceback
from pathlib import Path
from typing import Any

import pytest

from security.errors import BadKey
from security.keys.pairs import RECIPIENTS, ROLES, Recipient, Signer
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.policy.trust_policy import TrustPolicy, load_root

PASSPHRASE = "correct horse battery staple"


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_role_has_a_private_folder_and_the_policy_verifies(tmp_path: Path) -> None:
    made = init_keys(tmp_path / "keys")
    assert made.created
    for path in [tmp_path / "keys", *(tmp_path / "keys").rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    policy = TrustPolicy.load(tmp_path / "keys", root=made.root)
    assert load_root(tmp_path / "keys" / "root.json") == made.root
    for role in ROLES:
        signer = load_signer(tmp_path / "keys", role)
        enrolled = policy.trust.roles.get(role)  # type: ignore[call-overload]
        public = made.root if role == "root" else enrolled.keys[0].pair
        assert signer.public == public
    opening = [load_recipient(tmp_path / "keys", name).public for name in RECIPIENTS]
    assert policy.recipients == tuple(opening)
    assert policy.recipient("gatekeeper") == opening[1]


def test_running_it_twice_changes_nothing_and_says_so(tmp_path: Path) -> None:
    first = init_keys(tmp_path / "keys")
    before = snapshot(tmp_path / "keys")
    second = init_keys(tmp_path / "keys")
    assert "nothing changed" in str(second)
    assert not second.created
    assert second.root == first.root
    assert snapshot(tmp_path / "keys") == before


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadKey, match="is not empty"):
        init_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_roles_folder_alone_is_enough_for_its_deployment(home: Any, tmp_path: Path) -> None:
    shutil.copytree(home.folder / "trainer", tmp_path / "trainer")
    assert load_signer(tmp_path, "trainer").public == home.signers["trainer"].public
    with pytest.raises(BadKey, match="no key folder"):
        load_signer(tmp_path, "releaser")
    with pytest.raises(BadKey):
        load_recipient(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_readable_by_others_is_refused(home: Any, tmp_path: Path, mode: int) -> None:
    shutil.copytree(home.folder / "trainer", tmp_path / "trainer")
    (tmp_path / "trainer" / "mldsa65.pem").chmod(mode)
    with pytest.raises(BadKey, match="read by others") as refused:
        load_signer(tmp_path, "trainer")
    assert refused.value.remedy.startswith("chmod 600")


def test_linked_key_files_and_folders_are_refused(home: Any, tmp_path: Path) -> None:
    shutil.copytree(home.folder / "trainer", tmp_path / "a" / "trainer")
    key = tmp_path / "a" / "trainer" / "ed25519.pem"
    key.rename(tmp_path / "elsewhere.pem")
    key.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(BadKey, match="is a link"):
        load_signer(tmp_path / "a", "trainer")
    key.unlink()
    key.hardlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(BadKey, match="single name"):
        load_signer(tmp_path / "a", "trainer")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "trainer").symlink_to(home.folder / "trainer")
    with pytest.raises(BadKey):
        load_signer(tmp_path / "b", "trainer")


def test_a_missing_or_garbled_half_is_refused(home: Any, tmp_path: Path) -> None:
    shutil.copytree(home.folder / "trainer", tmp_path / "trainer")
    half = tmp_path / "trainer" / "mldsa65.pem"
    half.write_bytes((tmp_path / "trainer" / "ed25519.pem").read_bytes())
    with pytest.raises(BadKey, match="kind of key"):
        load_signer(tmp_path, "trainer")
    half.write_bytes(b"-----BEGIN PRIVATE KEY-----\nsecretsecret\n-----END PRIVATE KEY-----\n")
    with pytest.raises(BadKey) as refused:
        load_signer(tmp_path, "trainer")
    assert "secretsecret" not in "".join(traceback.format_exception(refused.value))
    half.unlink()
    with pytest.raises(BadKey, match="missing"):
        load_signer(tmp_path, "trainer")


def test_a_passphrase_locks_every_key_and_a_weak_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match="shorter than 12"):
        init_keys(tmp_path / "weak", passphrase="hunter2")
    assert not (tmp_path / "weak").exists()
    init_keys(tmp_path / "keys", passphrase=PASSPHRASE)
    for path in (tmp_path / "keys").rglob("*.pem"):
        assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert load_signer(tmp_path / "keys", "root", passphrase=PASSPHRASE).role == "root"
    with pytest.raises(BadKey, match="cannot be unlocked"):
        load_signer(tmp_path / "keys", "root")
    with pytest.raises(BadKey, match="passphrase is wrong"):
        load_signer(tmp_path / "keys", "root", passphrase=PASSPHRASE + "!")


def test_a_passphrase_for_an_unlocked_key_is_a_mistake(home: Any) -> None:
    with pytest.raises(BadKey, match="is not locked"):
        load_signer(home.folder, "root", passphrase=PASSPHRASE)


def test_secrets_never_show(home: Any, caplog: pytest.LogCaptureFixture) -> None:
    secrets = {
        line
        for path in home.folder.rglob("*.pem")
        for line in path.read_text().splitlines()
        if not line.startswith("-----")
    }
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("%r %s", home.signers["root"], home.recipient)
    shown = repr(home.signers) + str(home.recipient) + caplog.text + repr(vars(home))
    assert "withheld" in shown
    assert not any(secret in shown for secret in secrets)


@pytest.mark.parametrize("make", [lambda: Signer.generate("root"), Recipient.generate])
def test_private_keys_are_never_serialised_or_copied(make: Any) -> None:
    secret = make()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never serialised"):
            attempt(secret)
    with pytest.raises(TypeError):
        vars(secret)


def test_core_dumps_are_off_once_a_key_is_loaded(home: Any) -> None:
    load_signer(home.folder, "timestamp")
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
