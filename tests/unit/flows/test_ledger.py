import json
from datetime import UTC, datetime

import pytest

from flows.errors import Misconfigured
from flows.ledger import decided_until, path_of
from tests.release_site import Site

DECISION = "d1" * 32


def test_a_decision_has_a_place() -> None:
    assert path_of("d1") == "ledger/d1.json"


def test_a_retraining_knows_what_its_decision_judged_and_no_later(site: Site) -> None:
    entry = {"decision": {"id": DECISION, "window_end": "2013-07-01T00:00:00+00:00"}}
    site.context().commit_data(
        "x", DECISION, lambda run: run.put(path_of(DECISION), json.dumps(entry).encode()), inputs={}
    )
    found = decided_until(site.lake, site.lake.pin("flights"), DECISION)
    assert found == datetime(2013, 7, 1, tzinfo=UTC)
    assert found.utcoffset() is not None


def test_a_decision_that_is_not_in_the_ledger(site: Site) -> None:
    pin = site.lake.pin("flights")
    with pytest.raises(Misconfigured) as caught:
        decided_until(site.lake, pin, "nobody")
    assert str(caught.value) == f"The ledger at {pin} has no decision 'nobody'."
    assert "headrace runs" in caught.value.remedy
