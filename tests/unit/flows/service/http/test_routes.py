"""The routes in process: good answers, each class of bad input, overload, canary and shadow."""

import asyncio
import json
import re
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.service.predictions.segments import recover
from flows.service.predictions.spool import SpoolCounts

ROW = {"carrier": "AA", "distance_mi": 100.0}
JSON = {"content-type": "application/json"}


async def invoke(application: Any, *rows: dict[str, Any], **headers: str) -> httpx.Response:
    body = {"dataframe_records": list(rows) or [ROW]}
    return await application.client.post("/invocations", json=body, headers=headers)


async def test_an_answer_names_its_release_and_is_spooled_before_it_leaves(
    application: Any,
) -> None:
    row = ROW | {"trip": "t1", "at": "2013-07-01T12:00:00Z"}
    answer = await invoke(application, row, **{"x-request-id": "r1"})
    assert answer.json() == {"predictions": [1.0], "release": "trips/1", "request_id": "r1"}
    assert (answer.headers["x-request-id"], answer.headers["x-release"]) == ("r1", "trips/1")
    application.spool.rotate()
    (line,) = application.spool.waiting()[0].lines.read_bytes().splitlines()
    spooled = json.loads(line)
    assert spooled.pop("predicted_at") > 1.7e15
    assert spooled == ROW | {
        "request_id": "r1", "trip": "t1", "at": 1372680000000000, "release": "trips/1", "score": 1.0
    }  # fmt: skip


async def test_an_infer_call_answers_in_the_protocols_form(application: Any) -> None:
    inputs = [
        {"name": "carrier", "datatype": "BYTES", "shape": [2], "data": ["AA", None]},
        {"name": "distance_mi", "datatype": "FP32", "shape": [2], "data": [1, 2]},
    ]
    for path in ("/v2/models/trips/infer", "/v2/models/trips/versions/1/infer"):
        answer = await application.client.post(path, json={"id": "x", "inputs": inputs})
        assert answer.json() == {
            "model_name": "trips",
            "model_version": "1",
            "id": "x",
            "parameters": {"release": "trips/1"},
            "outputs": [{"name": "score", "datatype": "FP64", "shape": [2], "data": [1.0, 0.5]}],
        }


async def test_metadata_lists_inputs_in_the_releases_order(application: Any) -> None:
    for path in ("/v2/models/trips", "/v2/models/trips/versions/1"):
        told = (await application.client.get(path)).json()
        assert [(i["name"], i["datatype"]) for i in told["inputs"]] == [
            ("carrier", "BYTES"),
            ("distance_mi", "FP64"),
        ]
        assert told["parameters"]["categories"] == {"carrier": ["AA", "B6"]}


async def test_a_batch_beyond_the_inline_size_is_answered_by_the_batch_thread(
    application: Any,
) -> None:
    answer = await invoke(application, *[ROW] * 500)
    assert answer.json()["predictions"] == [1.0] * 500
    assert application.spool.counts.spooled == 500


async def test_unknown_categories_are_served_and_counted(application: Any) -> None:
    answer = await invoke(application, ROW | {"carrier": "ZZ"})
    assert answer.json()["predictions"] == [0.5]
    status = (await application.client.get("/status")).json()
    assert status["unknown_categories"] == {"carrier": 1}
    metrics = (await application.client.get("/metrics")).text
    assert 'headrace_unknown_categories_total{feature="carrier"} 1.0' in metrics


BAD = [
    (b"{", 400, "json"),
    (b'{"dataframe_records": [{"carrier": "AA", "distance_mi": NaN}]}', 400, "json"),
    (b"[" * 20_000 + b"]" * 20_000, 400, "json"),
    (b'{"dataframe_records": [{"carrier": "AA", "distance_mi": "far"}]}', 400, "dtype"),
    (b'{"dataframe_records": [{"carrier": 1, "distance_mi": 1}]}', 400, "dtype"),
    (b'{"dataframe_records": [{"carrier": {}, "distance_mi": 1}]}', 400, "dtype"),
    (b'{"dataframe_records": [{"carrier": true, "distance_mi": 1}]}', 400, "dtype"),
    (b'{"dataframe_records": [{"carrier": "AA", "distance_mi": 1e39}]}', 400, "range"),
    (
        b'{"dataframe_records": [{"carrier": "AA", "distance_mi": ' + b"9" * 400 + b"}]}",
        400,
        "json",
    ),
    (b'{"dataframe_records": [{"carrier": "AA"}]}', 400, "column_missing"),
    (
        b'{"dataframe_records": [{"carrier": "AA", "distance_mi": 1, "x": 1}]}',
        400,
        "column_unknown",
    ),
    (b'{"dataframe_records": []}', 400, "rows"),
    (b'{"dataframe_records": [' + b"{}," * 1000 + b"{}]}", 413, "too_large"),
    (b" " * 100_001, 413, "too_large"),
]


@pytest.mark.parametrize(("body", "status", "rule"), BAD)
async def test_each_class_of_bad_input_is_a_4xx_with_problem_and_remedy(
    application: Any, body: bytes, status: int, rule: str
) -> None:
    answer = await application.client.post("/invocations", content=body, headers=JSON)
    told = answer.json()
    assert (answer.status_code, told["rule"]) == (status, rule)
    assert told["error"]
    assert application.spool.counts == SpoolCounts(0, 0, 0)
    assert (await invoke(application)).status_code == 200


async def test_a_chunked_body_is_refused_at_the_limit_not_at_its_end(application: Any) -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 10_000
            yield b" " * 10_000

    answer = await application.client.post("/invocations", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert taken <= 120_000


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v2/models/other/infer", JSON, 404),
        ("POST", "/v2/models/trips/versions/2/infer", JSON, 404),
        ("GET", "/v2/models/other", {}, 404),
        ("GET", "/nothing", {}, 404),
        ("GET", "/invocations", {}, 405),
        ("POST", "/invocations", {"content-type": "text/csv"}, 415),
        ("POST", "/invocations", JSON | {"content-encoding": "gzip"}, 415),
        ("POST", "/invocations", JSON | {"x-request-id": "a b"}, 400),
        ("POST", "/invocations", JSON | {"x-request-id": "x" * 129}, 400),
    ],
)
async def test_what_is_not_there_or_not_so_called_is_a_4xx_in_json(
    application: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body = json.dumps({"dataframe_records": [ROW]}).encode() if method == "POST" else b""
    answer = await application.client.request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) >= {"error", "remedy"}


WORDS = (
    "inputs instances dataframe_records dataframe_split columns data name shape datatype "
    "carrier distance_mi trip at id outputs FP64 features parameters"
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(re.findall(r"\w+", WORDS)) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(document=documents)
async def test_no_json_at_all_makes_a_5xx(application: Any, document: Any) -> None:
    body = json.dumps(document, allow_nan=True).encode("utf-8", "surrogatepass")
    for path in ("/invocations", "/v2/models/trips/infer"):
        answer = await application.client.post(path, content=body, headers=JSON)
        assert answer.status_code < 500


@pytest.mark.parametrize(("queue_s", "status"), [(0.0, b"503"), (600.0, b"200")])
async def test_a_request_that_waited_too_long_is_shed_with_a_hint_when_to_come_again(
    application: Any, talk: Any, queue_s: float, status: bytes
) -> None:
    """Each request waits for the event loop, if only for a moment."""
    application.intake.limits = replace(application.intake.limits, queue_s=queue_s)
    body = json.dumps({"dataframe_records": [ROW]}).encode()
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    answer = await talk(application.app, head % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (b"retry-after: 1\r\n" in answer.lower()) == (status == b"503")
    health = await talk(
        application.app, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert health.startswith(b"HTTP/1.1 200")
    shed = f"headrace_shed_total {float(status == b'503')}"
    assert shed in (await application.client.get("/metrics")).text


class Held:
    """A session that scores once it is let go."""

    def __init__(self, session: Any) -> None:
        self._session, self.go = session, threading.Event()

    def run(self, outputs: Any, inputs: Any, /) -> Any:
        assert self.go.wait(60)
        return self._session.run(outputs, inputs)


async def test_batches_beyond_the_queue_are_shed_and_health_answers_meanwhile(
    application: Any, make_model: Any, session: Any
) -> None:
    held, most = Held(session), application.intake.limits.batches
    application.deploy(make_model(2, answers=held))
    waiting = [asyncio.create_task(invoke(application, *[ROW] * 900)) for _ in range(40)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    while len(pending) > most:
        some, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done |= some
    assert {reply.result().status_code for reply in done} == {503}
    assert (await application.client.get("/health")).status_code == 200
    held.go.set()
    assert {(await reply).status_code for reply in pending} == {200}
    assert (len(done), len(pending)) == (40 - most, most)
    assert application.spool.counts.spooled == 900 * most


async def test_a_canary_answers_its_share_and_the_same_ids_each_time(
    application: Any, make_model: Any
) -> None:
    application.deploy(make_model(1), canary=make_model(2), canary_percent=20)
    first = [(await invoke(application, **{"x-request-id": f"r{i}"})).json() for i in range(300)]
    again = [(await invoke(application, **{"x-request-id": f"r{i}"})).json() for i in range(300)]
    assert first == again
    canaries = sum(answer["release"] == "trips/2" for answer in first)
    assert 30 <= canaries <= 90
    pinned = await application.client.get("/v2/models/trips/versions/2")
    assert pinned.json()["versions"] == ["2"]


async def test_a_shadow_is_compared_and_never_answers(application: Any, make_model: Any) -> None:
    application.deploy(make_model(1), shadow=make_model(2))
    answers = [(await invoke(application)).json()["release"] for _ in range(20)]
    assert set(answers) == {"trips/1"}
    text = ""
    while "headrace_shadow_difference_count 20.0" not in text:  # compared after they were answered
        text = (await application.client.get("/metrics")).text
        await asyncio.sleep(0.01)
    assert "headrace_shadow_difference_sum 0.0" in text
    assert application.spool.counts.spooled == 20


async def test_before_the_first_release_inference_waits_and_health_lives(
    new_application: Any,
) -> None:
    for path in ("/invocations", "/v2/models/trips/infer"):
        answer = await new_application.client.post(path, json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    ready = {"/v2/health/ready": 503, "/health/ready": 503, "/health": 200, "/v2/health/live": 200}
    for path, status in ready.items():
        assert (await new_application.client.get(path)).status_code == status


async def test_the_access_log_has_a_line_a_request_and_no_value_of_a_payload(
    application: Any,
) -> None:
    await invoke(application, ROW | {"carrier": "SECRETVALUE"}, **{"x-request-id": "logged"})
    await application.client.post("/invocations", content=b'{"SECRETVALUE"', headers=JSON)
    await application.client.get("/SECRETVALUE?SECRETVALUE")
    await application.client.get("/health")
    lines = application.read_log()
    first, second, third = map(json.loads, lines)
    assert (first["route"], first["status"], first["rows"]) == ("/invocations", 200, 1)
    assert (first["release"], first["request_id"]) == ("trips/1", "logged")
    assert (second["status"], second["rule"]) == (400, "json")
    assert (third["route"], third["status"]) == ("other", 404)
    assert not re.search("SECRETVALUE", "".join(lines))


async def test_what_was_answered_can_be_recovered_from_the_disk_alone(
    application: Any, tmp_path: Any
) -> None:
    for _ in range(5):
        await invoke(application, ROW, ROW)
    found = recover(tmp_path / "spool", settled="")
    assert sum(segment.rows for segment in found) == 10
