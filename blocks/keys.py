"""Which private keys a deployment holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from blocks.closed import ClosedBlock

if TYPE_CHECKING:
    from security.keys import Signer


class SigningKeys(ClosedBlock):
    """One role's private pair, by the folder it lies in; the key itself never enters Prefect.

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

    folder: Path = Field(description="Folder that holds the role's own folder of key files.")
    role: Literal["root", "policy", "trainer", "gatekeeper", "releaser", "timestamp"] = Field(
        description="The role that signs."
    )
    passphrase: SecretStr | None = Field(
        default=None, description="What unlocks the key files, if they are locked."
    )

    def get_signer(self) -> "Signer":
        """The role's signer, read from its files now.

        Raises: BadKey if a file is missing, readable by others, malformed or locked.
        """
        from security.keys import load_signer

        passphrase = self.passphrase.get_secret_value() if self.passphrase else None
        return load_signer(self.folder, self.role, passphrase=passphrase)
