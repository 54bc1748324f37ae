"""Whoever gets no prediction gets JSON with a code that a program can rely on."""

import json
from typing import Any

import pytest

ROW = {"carrier": "AA", "distance_mi": 100.0}
BODY = json.dumps({"dataframe_records": [ROW]}).encode()
JSON = {"content-type": "application/json"}

REFUSED: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
    ("GET", "/nothing", {}, b"", 404, "service.not_found"),
    ("GET", "/v2/nothing/at/all", {}, b"", 404, "service.not_found"),
    ("GET", "/invocations", {}, b"", 405, "service.method_not_allowed"),
    ("DELETE", "/health", {}, b"", 405, "service.method_not_allowed"),
    ("GET", "/v2/models/other", {}, b"", 404, "service.model_unknown"),
    ("POST", "/v2/models/trips/versions/9/infer", JSON, BODY, 404, "service.model_unknown"),
    ("POST", "/invocations", JSON, b" " * 100_001, 413, "service.too_large"),
    (
        "POST",
        "/invocations",
        JSON,
        json.dumps({"instances": [[0, 1]] * 1001}).encode(),
        413,
        "service.too_large",
    ),
    ("POST", "/invocations", {"content-type": "text/csv"}, BODY, 415, "service.media_type"),
    ("POST", "/invocations", JSON | {"content-encoding": "gzip"}, BODY, 415, "service.media_type"),
    ("POST", "/invocations", JSON, b"{", 400, "contract.json"),
    ("POST", "/invocations", JSON, b"{}", 400, "contract.invocation"),
    ("POST", "/v2/models/trips/infer", JSON, b"{}", 400, "contract.inference_request"),
    ("POST", "/invocations", JSON | {"x-request-id": "a b"}, BODY, 400, "contract.request_id"),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "code"), REFUSED)
async def test_each_refusal_has_its_status_and_its_code(
    application: Any,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
) -> None:
    answer = await application.client.request(method, path, content=body, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code)
    assert told["error"]
    assert told["remedy"] is not None
    is_closed = answer.headers.get("connection") == "close"
    assert is_closed == (status == 413)


async def test_a_refused_row_names_its_rule_and_column_as_well(application: Any) -> None:
    body = {"dataframe_records": [{"carrier": "AA"}]}
    told = (await application.client.post("/invocations", json=body)).json()
    assert told == {
        "error": "row 0 has no distance_mi",
        "remedy": "send every feature; null where the value is not known",
        "rule": "column_missing",
        "column": "distance_mi",
        "code": "contract.column_missing",
    }


async def test_before_the_first_release_the_code_says_not_ready(new_application: Any) -> None:
    for path in ("/invocations", "/v2/models/trips/infer"):
        answer = await new_application.client.post(path, json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["code"] == "service.not_ready"


async def test_a_fault_of_the_service_says_so_and_nothing_of_its_cause(
    application: Any, make_model: Any
) -> None:
    class Broken:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("an internal path")

    application.deploy(make_model(2, answers=Broken()))
    answer = await application.client.post("/invocations", content=BODY, headers=JSON)
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "the service failed",
        "remedy": "see its log",
        "code": "service.failed",
    }


async def test_bytes_that_are_no_http_are_answered_in_the_same_form(
    application: Any, talk: Any
) -> None:
    head, _, body = (await talk(application.app, b"\x16\x03\x01 hello\r\n\r\n")).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/json" in head
    told = json.loads(body)
    assert (told["code"], told["remedy"]) == ("service.not_http", "send HTTP/1.1")
    assert set(told) == {"error", "remedy", "code"}
