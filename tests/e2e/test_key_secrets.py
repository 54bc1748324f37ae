"""Keys in Prefect Secret blocks, of a real Prefect server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from prefect.testing.utilities import prefect_test_harness

from blocks import DecryptionKey, SigningKeys
from security.errors import BadKey
from security.policy.key_homes import init_keys, load_recipient, load_signer


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.long
@pytest.mark.usefixtures("prefect")
def test_a_key_comes_out_of_a_prefect_secret(tmp_path: Path) -> None:
    folder = init_keys(tmp_path / "keys").folder
    for name in ("trainer", "serving"):
        text = "".join(pem.read_text() for pem in sorted((folder / name).glob("*.pem")))
        Secret(value=text).save(name)
    signer = SigningKeys(source="prefect-secret:trainer", role="trainer").get_signer()
    assert signer.public == load_signer(folder, "trainer").public
    opener = DecryptionKey(source="prefect-secret:serving").get_recipient()
    assert opener.public == load_recipient(folder).public
    with pytest.raises(BadKey, match="no Secret block nothing"):
        SigningKeys(source="prefect-secret:nothing", role="trainer").get_signer()
    Secret(value="no PEM").save("trainer", overwrite=True)
    with pytest.raises(BadKey, match="0 ed25519 private keys"):
        SigningKeys(source="prefect-secret:trainer", role="trainer").get_signer()
