"""The key to a lake."""

from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from blocks.closed import ClosedBlock

if TYPE_CHECKING:
    from storage.lake import Lake


class LakeCredentials(ClosedBlock):
    """Endpoint and key of a lakeFS server, embedded or real.

    Example:
        Open the lake:
        ```python
        from blocks import LakeCredentials

        credentials = LakeCredentials.load("BLOCK_NAME")
        lake = credentials.get_client()
        ```
    """

    _block_type_name = "Lake Credentials"
    _block_type_slug = "headrace-lake-credentials"

    endpoint: str = Field(description="Address of the lakeFS server, without a path.")
    access_key_id: str = Field(description="Id of the access key.")
    secret_access_key: SecretStr = Field(description="Secret half of the access key.")

    def get_client(self) -> "Lake":
        """The lake that this key opens."""
        from storage.lake import Lake
        from storage.lake.client import Access

        secret = self.secret_access_key.get_secret_value()
        return Lake(Access(self.endpoint, self.access_key_id, secret))
