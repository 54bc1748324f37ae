from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from pydantic import SecretStr, ValidationError

from blocks.keys import DecryptionKey, SigningKeys, secret_text
from security.errors import BadKey
from security.keys.keyfiles import write_private
from security.keys.pairs import Signer
from security.policy.key_homes import init_keys, load_recipient, load_signer

PHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_keys(tmp_path_factory.mktemp("home") / "keys").folder


def test_signing_keys_sign_as_their_role(home: Path) -> None:
    for role in ("trainer", "releaser"):
        signer = SigningKeys(folder=home, role=role).get_signer()
        assert signer.public == load_signer(home, role).public  # type: ignore[arg-type]
        assert signer.role == role


def test_locked_keys_take_their_passphrase(tmp_path: Path) -> None:
    made = Signer.generate("trainer")
    write_private(tmp_path / "trainer", made.private_halves(), PHRASE)
    locked = SigningKeys(folder=tmp_path, role="trainer", passphrase=SecretStr(PHRASE))
    assert locked.get_signer().public == made.public
    with pytest.raises(BadKey):
        SigningKeys(folder=tmp_path, role="trainer").get_signer()


def test_a_folder_is_a_source_of_files(home: Path) -> None:
    by_folder = SigningKeys(folder=home, role="releaser")
    by_source = SigningKeys(source=f"file:{home}", role="releaser")
    assert by_folder.get_signer().public == by_source.get_signer().public


def test_signing_keys_are_read_only_when_asked_for(tmp_path: Path) -> None:
    keys = SigningKeys(folder=tmp_path / "nowhere", role="releaser")
    with pytest.raises(BadKey):
        keys.get_signer()


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValidationError):
        SigningKeys(folder=Path("keys"), role="admin")  # type: ignore[arg-type]


def test_keys_come_from_one_place_only() -> None:
    with pytest.raises(ValidationError, match="either source or folder"):
        SigningKeys(role="trainer")
    with pytest.raises(ValidationError, match="either source or folder"):
        SigningKeys(source="env:KEY", folder=Path("keys"), role="trainer")


def test_a_decryption_key_is_its_recipients(home: Path) -> None:
    for name in ("serving", "gatekeeper"):
        block = DecryptionKey(source=f"file:{home}", recipient=name)
        found = load_recipient(home, name)  # type: ignore[arg-type]
        assert block.get_recipient().public == found.public
    with pytest.raises(BadKey):
        DecryptionKey(source=f"file:{home}", recipient="trainer").get_recipient()


@pytest.mark.parametrize("name", ["", "../serving", "Serving", "a b"])
def test_a_recipient_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="recipient"):
        DecryptionKey(source="file:keys", recipient=name)


@pytest.fixture
def prefect_holds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Block]:
    """What Prefect's server holds, by name; one without a block answers as the real one does."""
    held: dict[str, Block] = {}

    def load(name: str) -> Block:
        if name not in held:
            raise ValueError(f"Unable to find block document named {name}")
        return held[name]

    monkeypatch.setattr(Secret, "load", load)
    return held


def test_a_secret_of_prefects_holds_a_key(home: Path, prefect_holds: dict[str, Block]) -> None:
    halves = [home / "trainer" / f"{name}.pem" for name in ("ed25519", "mldsa65")]
    prefect_holds["the-pair"] = Secret(value="".join(half.read_text() for half in halves))
    keys = SigningKeys(source="prefect-secret:the-pair", role="trainer")
    assert keys.get_signer().public == load_signer(home, "trainer").public


def test_a_secret_that_is_not_there_is_named(prefect_holds: dict[str, Block]) -> None:
    with pytest.raises(BadKey) as caught:
        secret_text("the-pair")
    assert str(caught.value) == "Prefect has no Secret block the-pair"
    assert caught.value.__cause__ is None


def test_a_secret_that_holds_no_text_is_no_key(prefect_holds: dict[str, Block]) -> None:
    prefect_holds["numbers"] = Secret(value={"very": "secret"})
    with pytest.raises(BadKey) as caught:
        secret_text("numbers")
    assert str(caught.value) == "the Prefect Secret numbers does not hold text"
