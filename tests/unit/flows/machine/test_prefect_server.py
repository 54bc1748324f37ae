from base64 import urlsafe_b64decode
from pathlib import Path

from flows.machine.prefect_server import encryption_key


def test_the_key_of_block_secrets_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = encryption_key(tmp_path)
    assert len(urlsafe_b64decode(made)) == 32
    assert encryption_key(tmp_path) == made
    assert (tmp_path / "prefect-encryption.key").stat().st_mode & 0o777 == 0o600
    assert encryption_key(tmp_path / "other") != made
