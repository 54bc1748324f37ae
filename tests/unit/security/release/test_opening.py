from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import CannotDecrypt, Untrusted
from security.keys.pairs import Recipient
from security.release.opening import verify_and_open
from security.release.signing import verify_release


def open_it(home: Any, released: SimpleNamespace, into: Path, **more: Any) -> Any:
    return verify_and_open(
        released.folder,
        policy=home.policy,
        recipient=more.pop("recipient", home.recipient),
        into=into,
        **more,
    )


def test_one_read_verifies_and_opens(
    home: Any, released: SimpleNamespace, plain_files: dict[str, bytes], tmp_path: Path
) -> None:
    verified = open_it(home, released, tmp_path / "open", name="delays", version=1)
    assert verified == verify_release(released.folder, policy=home.policy)
    assert {p.name: p.read_bytes() for p in (tmp_path / "open").iterdir()} == plain_files


@pytest.mark.parametrize("place", [0, 30, 60, 40_000, -1])
def test_a_flipped_byte_of_the_payload_publishes_nothing(
    home: Any, released: SimpleNamespace, tmp_path: Path, place: int
) -> None:
    path = released.folder / "payload" / "model.onnx.sealed"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CannotDecrypt):
        open_it(home, released, tmp_path / "private" / "open")
    assert list((tmp_path / "private").iterdir()) == []


@pytest.mark.parametrize("name", ["release.dsse.json", "gates.dsse.json", "card.md"])
def test_nothing_is_decrypted_when_something_signed_fails(
    home: Any, released: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    path = released.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Untrusted):
        open_it(home, released, tmp_path / "private" / "open")
    assert not (tmp_path / "private").exists()


def test_a_strangers_key_opens_nothing(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(CannotDecrypt):
        open_it(home, released, tmp_path / "private" / "open", recipient=Recipient.generate())
    assert not (tmp_path / "private" / "open").exists()
