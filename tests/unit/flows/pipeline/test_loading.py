import pytest

from examples.flights.pipeline import pipeline as flights
from flows.errors import Misconfigured
from flows.pipeline import load_pipeline


def test_a_pipeline_is_loaded_by_its_name():
    assert load_pipeline("examples.flights.pipeline:pipeline") is flights


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("examples.flights.pipeline", "does not name a pipeline"),
        ("examples.boats:pipeline", "No module named"),
        ("examples.flights.pipeline:boats", "no attribute 'boats'"),
        ("examples.flights.pipeline:boosted_trees", "is a function, not a Pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_a_reason(reference, problem):
    with pytest.raises(Misconfigured, match=problem):
        load_pipeline(reference)
