"""Attacks 54 to 63: on keys, and beside them."""

import copy
import inspect
import json
import pickle
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import security.release.verify
from security.errors import BadKey, CannotDecrypt, Untrusted
from security.keys.pairs import Recipient
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.release import stanzas
from security.release.bundle import add_recipient, seal
from security.release.index import sign_index, sign_timestamp
from security.release.signing import (
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
    verify_release,
)

UNIFORM = "the sealed payload does not open with this key"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_54_another_recipients_stanza_does_not_open(target: Any) -> None:
    """Renamed to the thief's own id: the wrap is bound to whom it was made for."""
    thief = Recipient.generate()

    def rename(fields: dict[str, Any]) -> None:
        del fields["sha256"]
        fields["recipients"] = [{**fields["recipients"][0], "id": thief.public.recipient_id}]

    target.edit("recipients.json", rename)
    for key in (thief, target.keys.recipient):
        with pytest.raises(CannotDecrypt, match=UNIFORM):
            target.open(key)
    target.nothing_was_published()


def test_55_a_removed_recipient_cannot_read_later_versions(target: Any) -> None:
    removed, kept = Recipient.generate(), target.keys.recipient
    plain = target.place / "m"
    plain.write_bytes(b"a later model")
    add_recipient(target.folder, recipient=kept, new=removed.public)
    target.open(removed)
    out = target.place / "later"
    later = seal({"m": plain}, recipients=[kept.public], out=out)
    listed = stanzas.read_stanzas(out)
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        stanzas.unwrap_key(listed, removed)
    earlier = stanzas.unwrap_key(stanzas.read_stanzas(target.folder), kept)
    assert stanzas.unwrap_key(listed, kept) != earlier
    assert later.sealed.bundle_id != target.stated.bundle.bundle_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_56_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    init_keys(tmp_path / "keys")
    path = tmp_path / "keys" / "trainer" / "ed25519.pem"
    path.chmod(mode)
    with pytest.raises(BadKey, match="can be read by others"):
        load_signer(tmp_path / "keys", "trainer")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        ("symbolic link", "x25519.pem is missing, or is a link$"),
        ("hard link", "x25519.pem is not a regular file with a single name$"),
    ],
)
def test_56_a_key_file_that_is_a_link_is_refused(tmp_path: Path, plant: str, reason: str) -> None:
    init_keys(tmp_path / "keys")
    path, away = tmp_path / "keys" / "serving" / "x25519.pem", tmp_path / "away"
    path.rename(away)
    if plant == "symbolic link":
        path.symlink_to(away)
    else:
        path.hardlink_to(away)
    with pytest.raises(BadKey, match=reason):
        load_recipient(tmp_path / "keys")


@pytest.mark.parametrize("weak", ["", "1234", "elevenchars"])
def test_57_a_weak_passphrase_is_refused_and_leaves_no_key(tmp_path: Path, weak: str) -> None:
    with pytest.raises(BadKey, match="passphrase"):
        init_keys(tmp_path / "keys", passphrase=weak)
    assert not (tmp_path / "keys").exists()


def test_57_a_passphrase_goes_through_argon2id_before_pkcs8(tmp_path: Path) -> None:
    """The same words without Argon2id do not open the file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    init_keys(tmp_path / "keys", passphrase="several random words")
    pem = (tmp_path / "keys" / "trainer" / "ed25519.pem").read_bytes()
    assert b"ENCRYPTED PRIVATE KEY" in pem
    with pytest.raises(ValueError, match=r".+"):
        load_pem_private_key(pem, b"several random words")
    load_signer(tmp_path / "keys", "trainer", passphrase="several random words")
    with pytest.raises(BadKey, match="passphrase is wrong"):
        load_signer(tmp_path / "keys", "trainer", passphrase="several other words")


def test_58_a_private_key_shows_nowhere(keys: Any) -> None:
    """Not in repr, str, format, a traceback, a copy or a pickle."""
    signer, recipient = keys.signers["trainer"], keys.recipient
    held = [
        key.private_bytes_raw().hex()
        for key in (*signer.private_halves().values(), *recipient.private_halves().values())
    ]
    shown = f"{signer!r} {signer} {recipient!r} {recipient} {[signer, recipient]}"
    try:
        signer.require("releaser")
    except BadKey:
        shown += traceback.format_exc()
    assert not any(secret in shown for secret in held)
    for one in (signer, recipient):
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never serialised"):
                leak(one)
        with pytest.raises(TypeError):
            json.dumps(one)
        assert not hasattr(one, "__dict__")


def test_59_every_refusal_to_decrypt_reads_the_same(target: Any) -> None:
    """Absent, foreign, damaged stanza; wrong key; damaged chunk: one text, no cause."""
    listed = stanzas.read_stanzas(target.folder)
    foreign = stanzas.wrap_key(
        bytes(32), bundle_id="ab" * 32, recipient=target.keys.recipient.public
    )
    short = stanzas.Stanza(target.keys.recipient.public.recipient_id, "AAAA")
    said = set()
    for given in ((foreign,), (short,), listed.recipients):
        stanzas.write_stanzas(
            target.folder,
            stanzas.Stanzas(listed.bundle_id, listed.suite, given),
        )
        if given is listed.recipients:
            data = bytearray(target.model.read_bytes())
            data[-1] ^= 1
            target.model.write_bytes(data)
        with pytest.raises(CannotDecrypt) as refused:
            target.open()
        said.add((str(refused.value), refused.value.remedy))
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__
    with pytest.raises(CannotDecrypt) as refused:
        target.open(Recipient.generate())
    said.add((str(refused.value), refused.value.remedy))
    assert len(said) == 1


def test_61_core_dumps_are_off_once_a_key_is_loaded(tmp_path: Path) -> None:
    init_keys(tmp_path / "keys")
    code = (
        "import resource, ctypes, sys; from pathlib import Path\n"
        "from security.policy.key_homes import load_signer\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(4)[1]))\n"
        "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "load_signer(Path(sys.argv[1]), 'trainer')\n"
        "print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),"
        " resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert resource.RLIMIT_CORE == 4
    done = run("-c", code, str(tmp_path / "keys"))
    assert done.stdout == "1 0 (0, 0)\n", done.stderr


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_62_python_minus_o_refuses_the_same(target: Any, flag: str) -> None:
    data = bytearray(target.model.read_bytes())
    data[100] ^= 1
    target.model.write_bytes(data)
    root = str(target.keys.folder / "root.json")
    done = run(flag, "-m", "security", "verify", str(target.folder), "--root", root)
    assert (done.returncode, done.stderr) == (
        1,
        "refused: model.onnx does not have the signed digest\n",
    )


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt, ValueError])
def test_62_an_exception_is_never_taken_for_a_pass(
    target: Any, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Whatever goes wrong inside a signature's check, nothing comes back as verified."""

    def fails(*_given: Any, **_named: Any) -> Any:
        raise error("inside")

    monkeypatch.setattr(security.release.verify, "check_bundle", fails)
    monkeypatch.setattr(security.release.verify, "find_shortfalls", fails)
    with pytest.raises(error):
        verify_release(target.folder, policy=target.keys.policy)


def test_62_a_verification_that_stops_early_is_no_pass(target: Any) -> None:
    steps = security.release.verify.begin_verification(target.folder, policy=target.keys.policy)
    next(steps)
    steps.close()
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value is None
    with pytest.raises(Untrusted, match="did not come to an end"):
        security.release.verify.run_steps(steps)


def test_62_a_signer_that_fails_writes_nothing(target: Any) -> None:
    """Half a signature is never left behind, nor a card without one."""

    class Broken:
        role, public = "releaser", target.keys.signers["releaser"].public

        def sign(self, message: bytes) -> tuple[bytes, bytes]:
            raise BadKey("the key service did not answer")

        def require(self, role: str) -> "Broken":
            return self

    before = {path: path.read_bytes() for path in target.folder.rglob("*") if path.is_file()}
    with pytest.raises(BadKey, match="did not answer"):
        sign_release(
            target.folder,
            ReleaseTerms(
                version=2,
                card="# Another\n",
                created="2013-07-01T00:00:00Z",
                created_by="ana",
                reason="again",
            ),
            policy=target.keys.policy,
            signer=Broken(),
        )
    after = {path: path.read_bytes() for path in target.folder.rglob("*") if path.is_file()}
    assert after == before


def test_63_no_role_signs_bytes_that_were_handed_to_it(target: Any) -> None:
    """Each states what it has itself: no signing function takes a statement, digest or verdict."""
    for sign in (sign_provenance, sign_gates, sign_release, sign_index, sign_timestamp):
        given = set(inspect.signature(sign).parameters)
        assert not given & {"payload", "statement", "message", "digest", "envelope"}, sign
    with pytest.raises(BadKey, match="cannot sign as releaser"):
        target.keys.signers["gatekeeper"].require("releaser")


def test_63_the_releaser_signs_only_what_it_verified_itself(target: Any) -> None:
    """The gatekeeper's evidence is forged by an outsider; the releaser is asked to bind it."""
    target.resign("gates.dsse.json", "trainer", lambda statement: None)
    before = (target.folder / "release.dsse.json").read_bytes()
    with pytest.raises(Untrusted, match="not signed as gatekeeper"):
        sign_release(
            target.folder,
            ReleaseTerms(
                version=2,
                card="# Another\n",
                created="2013-07-01T00:00:00Z",
                created_by="ana",
                reason="again",
            ),
            policy=target.keys.policy,
            signer=target.keys.signers["releaser"],
        )
    assert (target.folder / "release.dsse.json").read_bytes() == before
