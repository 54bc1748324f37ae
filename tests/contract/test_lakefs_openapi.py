"""The API as the server describes it: schemathesis calls every operation with what it makes up."""

import base64

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from storage.embedded.rest.openapi import API, describe

UNSUPPORTED = 501
# Logging in needs the secret.
api = schemathesis.openapi.from_dict(describe()).exclude(path_regex="/auth/login")


@pytest.fixture(scope="session")
def authorization(endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS answers 500 to some mistakes of its clients")
    pair = f"{endpoint.key_id}:{endpoint.secret}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def call(case, endpoint, authorization, repository):
    """One made-up call, mostly at a repository and a branch that are there."""
    for name, value in (("repository", repository), ("branch", "main"), ("ref", "main")):
        if name in case.path_parameters and len(case.path_parameters[name]) % 4:
            case.path_parameters[name] = value
    answer = case.call(base_url=f"{endpoint.url}{API}", headers=authorization)
    if answer.status_code != UNSUPPORTED:
        case.validate_response(answer, checks=[not_a_server_error])


quick = {
    "deadline": None,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@api.parametrize()
@settings(max_examples=3, **quick)
def test_no_call_makes_the_server_fail(case, endpoint, authorization, repository):
    call(case, endpoint, authorization, repository)


@pytest.mark.long
@api.parametrize()
@settings(max_examples=200, **quick)
def test_no_call_of_many_makes_the_server_fail(case, endpoint, authorization, repository):
    call(case, endpoint, authorization, repository)


def test_the_description_names_what_is_served(endpoint):
    if endpoint.is_real:
        pytest.skip("the description is the embedded server's own")
    described = httpx.get(f"{endpoint.url}/openapi.json").json()
    assert described == describe()
    metadata = described["paths"]["/repositories/{repository}/metadata"]
    assert metadata.keys() == {"get", "post", "delete"}
    assert "/repositories/{repository}/pulls" not in described["paths"]
