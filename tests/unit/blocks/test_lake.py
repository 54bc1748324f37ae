import pytest
from pydantic import SecretStr, ValidationError

from blocks.lake import LakeCredentials
from storage.errors import Unavailable
from storage.lake.client import Access


def credentials(endpoint: str) -> LakeCredentials:
    return LakeCredentials(
        endpoint=endpoint, access_key_id="A", secret_access_key=SecretStr("very-secret")
    )


def test_lake_credentials_open_the_lake_they_name() -> None:
    lake = credentials("http://127.0.0.1:8470").get_client()
    assert lake.access == Access("http://127.0.0.1:8470", "A", "very-secret")
    assert lake.storage_options["aws_secret_access_key"] == "very-secret"


def test_a_lake_is_asked_only_when_it_is_used() -> None:
    lake = credentials("http://127.0.0.1:1").get_client()
    with pytest.raises(Unavailable, match="No answer from lakeFS"):
        lake.fs.health()


@pytest.mark.parametrize("missing", ["endpoint", "access_key_id", "secret_access_key"])
def test_credentials_are_whole_or_none(missing: str) -> None:
    fields = {"endpoint": "http://x", "access_key_id": "A", "secret_access_key": "s"}
    del fields[missing]
    with pytest.raises(ValidationError, match=missing):
        LakeCredentials(**fields)
