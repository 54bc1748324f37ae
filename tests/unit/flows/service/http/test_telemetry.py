"""What is counted and logged of a request, and what Prometheus reads from the state."""

import json
from datetime import UTC, datetime
from typing import Any

from flows.service.http.telemetry import ServiceMetrics
from flows.service.models.refusals import Refusal
from flows.service.models.state import ServingState
from flows.service.predictions.spool import Spool

ROW = {"carrier": "AA", "distance_mi": 100.0}


def values(metrics: ServiceMetrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


async def test_each_answer_is_counted_under_its_route_and_status(application: Any) -> None:
    for path, body in (("/invocations", [ROW, ROW]), ("/invocations", []), ("/a", []), ("/b", [])):
        await application.client.post(path, json={"dataframe_records": body})
    found = values(application.metrics)
    requests = {name: n for name, n in found.items() if name.startswith("headrace_requests_total")}
    assert requests == {
        'headrace_requests_total{route="/invocations",status="200"}': 1,
        'headrace_requests_total{route="/invocations",status="400"}': 1,
        'headrace_requests_total{route="other",status="404"}': 2,
    }
    assert found['headrace_rows_total{release="trips/1"}'] == 2
    assert found['headrace_request_seconds_count{route="/invocations"}'] == 2


async def test_health_is_counted_and_not_logged(application: Any) -> None:
    for path in ("/health", "/v2/health/live", "/metrics", "/status"):
        assert (await application.client.get(path)).status_code == 200
    (line,) = application.read_log()
    assert json.loads(line)["route"] == "/status"
    assert values(application.metrics)['headrace_requests_total{route="/health",status="200"}'] == 1


def test_state_is_read_when_it_is_asked_for(spool: Spool) -> None:
    state = ServingState()
    metrics = ServiceMetrics(state, spool)
    before = values(metrics)
    assert (before["headrace_refused"], before["headrace_index_stale"]) == (0, 0)
    assert before["headrace_reconcile_age_seconds"] == float("inf")
    at = datetime(2013, 7, 1, tzinfo=UTC)
    state.refusal, state.refusals = Refusal("trips/2", 2, "policy", "forged", at), 3
    state.stale, state.lake_problem = "the timestamp expired", "no answer"
    spool.append(b"{}\n", rows=1, columns=spool.declare({"x": "String"}))
    after = values(metrics)
    assert (after["headrace_refused"], after["headrace_refusals_total"]) == (1, 3)
    assert (after["headrace_index_stale"], after["headrace_lake_up"]) == (1, 0)
    assert (after["headrace_accepted_rows_total"], after["headrace_spooled_rows"]) == (1, 1)
    assert after["headrace_spooled_bytes"] == 3


def test_each_part_that_serves_is_named(application: Any, make_model: Any) -> None:
    application.deploy(make_model(1), canary=make_model(2), canary_percent=5, shadow=make_model(3))
    found = values(application.metrics)
    for number, part in ((1, "champion"), (2, "canary"), (3, "shadow")):
        labels = f'digest="{number:064x}",part="{part}",release="trips/{number}"'
        assert found[f"headrace_release_info{{{labels}}}"] == 1
    assert sum(name.startswith("headrace_release_info{") for name in found) == 3
    assert found["headrace_index_number"] == 2
