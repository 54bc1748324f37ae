from pathlib import Path

import pytest
import yaml
from prefect.events import Event

from flows import events
from flows.events import PASSED, PUBLISHED, REGISTERED, TRAINED, announce

# The monitor's own.
DETECTED = "headrace.drift.detected"
PROJECT = Path(__file__).parents[3]


def test_an_event_names_the_pipeline_and_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Event] = []
    # Prefect's function would send it to a server; its schema judges what we give it.
    monkeypatch.setattr(events, "emit_event", lambda **given: sent.append(Event(**given)))
    payload = {"candidate": "c0" * 32}
    announce(TRAINED, pipeline="flights", payload=payload)
    (event,) = sent
    assert (event.event, event.payload) == ("headrace.candidate.trained", payload)
    assert event.resource.id == "headrace.pipeline.flights"
    assert event.resource.name == "flights"


def test_every_deployment_is_triggered_by_an_event_that_a_stage_sends() -> None:
    text = (PROJECT / "prefect.yaml").read_text()
    deployments = yaml.safe_load(text)["deployments"]
    expected = {
        name
        for deployment in deployments
        for trigger in deployment.get("triggers", [])
        for name in trigger["expect"]
    }
    assert expected - {DETECTED} == {TRAINED, PASSED, PUBLISHED}
    assert REGISTERED not in expected
