import httpx
import pytest
from pydantic import ValidationError

from blocks.serving import ServingTarget

URL = "http://127.0.0.1:8480"


def test_a_serving_target_asks_its_own_address() -> None:
    with ServingTarget(url=URL, timeout_s=2.5).get_client() as client:
        asked = client.build_request("GET", "/v2/health/ready").url
        assert asked == httpx.URL(f"{URL}/v2/health/ready")
        assert client.timeout == httpx.Timeout(2.5)
    assert client.is_closed


def test_the_environment_is_production_unless_it_is_named() -> None:
    assert ServingTarget(url=URL).environment == "production"
    assert ServingTarget(environment="staging-2", url=URL).environment == "staging-2"


@pytest.mark.parametrize("name", ["", "../production", "Production", "a/b"])
def test_an_environment_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ServingTarget(environment=name, url=URL)


def test_it_waits_for_some_time() -> None:
    with pytest.raises(ValidationError, match="timeout_s"):
        ServingTarget(url=URL, timeout_s=0)
