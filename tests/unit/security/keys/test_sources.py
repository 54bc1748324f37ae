import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from security.errors import BadKey, CannotDecrypt
from security.formats import envelope
from security.formats.envelope import INTOTO
from security.keys.command import CommandSigner, Program
from security.keys.sources import KeyReader, find_source_kind
from security.release.bundle import open_bundle

PROGRAM = Path(__file__).with_name("key_command.py")


def command(home: Any, how: str = "well") -> str:
    start = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); sys.argv = sys.argv[1:]; "
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    given = [sys.executable, "-c", start + run, str(PROGRAM), str(home.folder), how]
    return f"command:{shlex.join(given)}"


def bundle(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.pem")))


def verifies(signer: Any, public: Any) -> bool:
    signed = envelope.sign(b"payload", INTOTO, signer)
    return envelope.verify(signed, signers=[public], payload_type=INTOTO).payload == b"payload"


@pytest.mark.parametrize("prefix", ["", "file:"])
def test_a_folder_holds_a_roles_signer(home: Any, prefix: str) -> None:
    signer = KeyReader().read_signer(f"{prefix}{home.folder}", "trainer")
    assert signer.public == home.signers["trainer"].public
    assert verifies(signer, signer.public)


def test_a_locked_folder_needs_its_passphrase(tmp_path: Path) -> None:
    from security.policy.key_homes import init_keys

    home = init_keys(tmp_path / "keys", passphrase="correct horse battery")
    with pytest.raises(BadKey, match="cannot be unlocked"):
        KeyReader().read_signer(str(home.folder), "trainer")
    signer = KeyReader(passphrase="correct horse battery").read_signer(str(home.folder), "trainer")
    assert signer.role == "trainer"


def test_an_environment_variable_holds_a_pair(home: Any) -> None:
    reader = KeyReader(environment={"TRAINER_PEM": bundle(home.folder / "trainer")})
    signer = reader.read_signer("env:TRAINER_PEM", "trainer")
    assert verifies(signer, home.signers["trainer"].public)
    with pytest.raises(BadKey, match="has no NOTHING"):
        reader.read_signer("env:NOTHING", "trainer")


def test_the_process_s_own_environment_is_not_read(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_PEM", bundle(home.folder / "trainer"))
    with pytest.raises(BadKey, match="has no TRAINER_PEM"):
        KeyReader().read_signer("env:TRAINER_PEM", "trainer")


def test_one_bundle_of_the_gatekeeper_signs_and_opens(home: Any) -> None:
    reader = KeyReader(environment={"GATE_PEM": bundle(home.folder / "gatekeeper")})
    signer = reader.read_signer("env:GATE_PEM", "gatekeeper")
    assert signer.public == home.signers["gatekeeper"].public
    opener = reader.read_recipient("env:GATE_PEM", "gatekeeper")
    assert opener.public == home.policy.recipient("gatekeeper")


def test_a_prefect_secret_is_resolved_by_the_caller(home: Any) -> None:
    texts = {"trainer-key": bundle(home.folder / "trainer")}
    signer = KeyReader(secret=texts.__getitem__).read_signer(
        "prefect-secret:trainer-key", "trainer"
    )
    assert signer.public == home.signers["trainer"].public
    with pytest.raises(BadKey, match="cannot be read here"):
        KeyReader().read_signer("prefect-secret:trainer-key", "trainer")


@pytest.mark.parametrize("how", ["well", "mu"])
def test_a_command_signs_without_its_key_ever_coming_here(home: Any, how: str) -> None:
    signer = KeyReader().read_signer(command(home, how), "trainer")
    assert isinstance(signer, CommandSigner)
    assert verifies(signer, home.signers["trainer"].public)
    with pytest.raises(BadKey, match="cannot sign as releaser"):
        signer.require("releaser")


def test_a_command_opens_a_bundle(home: Any, released: Any, tmp_path: Path) -> None:
    opener = KeyReader().read_recipient(command(home), "serving")
    into = open_bundle(released.folder, released.release, recipient=opener, into=tmp_path / "open")
    assert (into / "reference.json").read_bytes() == b'{"rows":1}'
    with pytest.raises(CannotDecrypt) as refused:
        opener.unwrap(b"x" * 1168, info=b"")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("forges-ed25519", "Ed25519 signature does not verify"),
        ("forges-ml-dsa-65", "ML-DSA-65 signature does not verify"),
    ],
)
def test_a_command_that_signs_something_else_signs_nothing(
    home: Any, how: str, problem: str
) -> None:
    with pytest.raises(BadKey, match=problem):
        KeyReader().read_signer(command(home, how), "trainer").sign(b"payload")


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("fails", "ended with 1 at 'public'"),
        ("babbles", "did not answer 'public' with JSON"),
        ("floods", "larger than 65536 bytes"),
    ],
)
def test_a_broken_command_is_a_bad_key_and_its_words_are_never_shown(
    home: Any, how: str, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadKey, match=problem) as refused:
        KeyReader().read_signer(command(home, how), "trainer")
    assert "leaked" not in str(refused.value) + "".join(capfd.readouterr())
    assert "by hand" in refused.value.remedy


def test_a_command_that_hangs_is_ended_with_its_children(home: Any) -> None:
    program = Program.parse(command(home, "hangs").removeprefix("command:"), time_limit_s=2)
    before = time.monotonic()
    with pytest.raises(BadKey, match="longer than 2 s"):
        program.ask("trainer", "public")
    # Not how fast, but that nobody waited for the minute that the grandchild sleeps.
    assert time.monotonic() - before < 50


def test_a_command_whose_grandchild_left_its_session_is_not_waited_for() -> None:
    program = Program.parse("sh -c 'setsid sleep 50 & sleep 50'", time_limit_s=1)
    before = time.monotonic()
    with pytest.raises(BadKey, match="longer than 1 s"):
        program.ask("trainer", "public")
    # Not how fast, but that nobody waited for what the grandchild keeps open.
    assert time.monotonic() - before < 40


def test_a_pair_that_the_policy_does_not_enrol_is_refused_before_it_signs(home: Any) -> None:
    enrolled = home.policy.pairs("trainer")
    assert KeyReader().read_signer(str(home.folder), "trainer", expected=enrolled)
    with pytest.raises(BadKey, match="not one that the policy enrols as releaser"):
        KeyReader().read_signer(str(home.folder), "releaser", expected=enrolled)
    with pytest.raises(BadKey):
        KeyReader().read_signer(str(home.folder), "trainer", expected=())


@pytest.mark.parametrize("source", ["", "file:", "ftp:x", "command:", "command:'", "env:", ":x"])
def test_a_source_of_no_known_kind_is_refused(source: str) -> None:
    with pytest.raises(BadKey):
        KeyReader().read_signer(source, "trainer")


def test_a_path_with_a_colon_is_a_path() -> None:
    assert find_source_kind("./odd:name") == "file"
    assert find_source_kind("/keys") == "file"
    with pytest.raises(BadKey):
        find_source_kind("odd:name")


def test_a_command_that_is_not_there_is_a_bad_key() -> None:
    with pytest.raises(BadKey, match="does not start"):
        KeyReader().read_signer("command:/nonexistent/kms", "trainer")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_text_that_holds_no_pair_is_refused(text: str) -> None:
    with pytest.raises(BadKey):
        KeyReader(environment={"PEM": text}).read_signer("env:PEM", "trainer")


def test_two_keys_of_one_kind_are_ambiguous(home: Any) -> None:
    both = bundle(home.folder / "trainer") + bundle(home.folder / "releaser")
    with pytest.raises(BadKey, match="holds 2 ed25519 private keys"):
        KeyReader(environment={"PEM": both}).read_signer("env:PEM", "trainer")


def test_no_private_half_shows_in_a_program_that_lists_its_signers(home: Any) -> None:
    signer = KeyReader().read_signer(command(home), "trainer")
    assert repr(signer).startswith("<CommandSigner trainer ")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import security.keys.sources, sys; print('prefect' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
