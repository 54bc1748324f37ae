from dataclasses import replace
from datetime import UTC, datetime

import pytest

from examples.flights.pipeline import pipeline as flights
from flows.errors import Misconfigured
from flows.pipeline import Gate


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Flights 1"}, "cannot name a pipeline"),
        ({"features": ("carrier", "carrier")}, "feature named twice: carrier"),
        ({"views": flights.views[:1] * 2}, "feature view named twice: carrier_delays"),
        ({"datasets": flights.datasets[:1] * 2}, "dataset named twice: flights"),
        ({"categorical": ("colour",)}, "categorical, but no feature: colour"),
        ({"gates": (Gate("roc_auc", "<=", "1", group_by="seats"),)}, "not categorical: seats"),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused(changes, problem):
    with pytest.raises(Misconfigured, match=problem):
        replace(flights, **changes)


def test_history_reaches_back_by_the_longest_view():
    start = datetime(2013, 5, 1, tzinfo=UTC)
    assert flights.reads_since(start) == datetime(2013, 4, 25, tzinfo=UTC)


def test_a_view_that_never_expires_needs_all_history():
    forever = replace(flights.views[0], lifetime=None)
    assert replace(flights, views=(forever,)).reads_since(datetime(2013, 5, 1, tzinfo=UTC)) is None
