"""Which private keys a deployment holds, and where each of them comes from."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, SecretStr, model_validator

from blocks.closed import ClosedBlock

if TYPE_CHECKING:
    from security.keys.pairs import Opener, RoleSigner
    from security.keys.sources import KeyReader

_SOURCE = "file:FOLDER, env:NAME, command:PROGRAM ARGS or prefect-secret:NAME"


class SigningKeys(ClosedBlock):
    """One role's private pair, by where it is; the block itself never holds a key.

    Example:
        Sign as the role:
        ```python
        from blocks import SigningKeys

        keys = SigningKeys.load("BLOCK_NAME")
        signer = keys.get_signer()
        ```
    """

    _block_type_name = "Signing Keys"
    _block_type_slug = "headrace-signing-keys"

    source: str | None = Field(default=None, description=f"Where the pair is: {_SOURCE}.")
    folder: Path | None = Field(
        default=None, description="Instead of a source: folder with the role's folder of key files."
    )
    role: Literal["root", "policy", "trainer", "gatekeeper", "releaser", "timestamp"] = Field(
        description="The role that signs."
    )
    passphrase: SecretStr | None = Field(
        default=None, description="What unlocks the key files, if they are locked."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.source is None) == (self.folder is None):
            raise ValueError("give either source or folder")
        return self

    def get_signer(self) -> "RoleSigner":
        """The role's signer, read from its source now.

        Raises: BadKey if it is missing, readable by others, malformed or locked.
        """
        source = self.source or f"file:{self.folder}"
        return _key_reader(self.passphrase).read_signer(source, self.role)


class DecryptionKey(ClosedBlock):
    """One recipient's private key, by where it is; the block itself never holds a key.

    Example:
        Open what was sealed for the recipient:
        ```python
        from blocks import DecryptionKey

        key = DecryptionKey.load("BLOCK_NAME")
        recipient = key.get_recipient()
        ```
    """

    _block_type_name = "Decryption Key"
    _block_type_slug = "headrace-decryption-key"

    source: str = Field(description=f"Where the key is: {_SOURCE}.")
    recipient: str = Field(
        default="serving",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="The recipient's name in the trust policy.",
    )
    passphrase: SecretStr | None = Field(
        default=None, description="What unlocks the key files, if they are locked."
    )

    def get_recipient(self) -> "Opener":
        """The decryption key, read from its source now.

        Raises: BadKey if it is missing, readable by others, malformed or locked.
        """
        return _key_reader(self.passphrase).read_recipient(self.source, self.recipient)


def _key_reader(passphrase: SecretStr | None) -> "KeyReader":
    from security.keys.sources import KeyReader

    return KeyReader(
        environment=os.environ,
        secret=secret_text,
        passphrase=passphrase.get_secret_value() if passphrase else None,
    )


def secret_text(name: str) -> str:
    """The text in a Prefect Secret block, for `security.keys.sources`.

    Raises: BadKey if there is no such block, or it does not hold text.
    """
    from prefect.blocks.system import Secret

    from security.errors import BadKey

    try:
        held = Secret.load(name)
    except ValueError:
        raise BadKey(
            f"Prefect has no Secret block {name}",
            remedy="make it in the UI, or with Secret(value=…).save(NAME)",
        ) from None
    value = held.get() if isinstance(held, Secret) else None
    if not isinstance(value, str):
        raise BadKey(f"the Prefect Secret {name} does not hold text")
    return value
