import importlib
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import dataframely as dy
import polars as pl
import pytest

from examples.flights.pipeline import pipeline as flights
from flows.errors import Misconfigured
from flows.pipeline import Gate, definition_digest, load_pipeline
from flows.tables import predictions

USER_MODULE = """
from functools import partial
import polars as pl
from storage.features import FeatureView
WINDOW_H = 3
def build(frames, *, hours):
    return frames["x"]
view = FeatureView(name="x", keys=("k",), features={"f": pl.Float64()},
                   build=partial(build, hours=WINDOW_H))
"""


def digest_of_view_in(folder, source: str) -> str:
    (folder / "user_views.py").write_text(source)
    sys.modules.pop("user_views", None)
    importlib.invalidate_caches()
    view = importlib.import_module("user_views").view
    return definition_digest(replace(flights, views=(view,)))


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("user_views", None)


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


def test_the_digest_is_the_same_each_time():
    assert definition_digest(flights) == definition_digest(replace(flights))
    assert len(definition_digest(flights)) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "flights2"},
        {"features": flights.features[::-1]},
        {"categorical": ("carrier", "origin")},
        {"hyperparameters": {**flights.hyperparameters, "max_iter": 121}},
        {"hyperparameters": {**flights.hyperparameters, "max_iter": 120.0}},
        {"training_window": timedelta(days=90)},
        {"datasets": (replace(flights.datasets[0], event_time=None), *flights.datasets[1:])},
        {"views": (replace(flights.views[0], lifetime=timedelta(days=4)), *flights.views[1:])},
        {"entities": flights.labels},
    ],
)
def test_whatever_determines_the_model_changes_the_digest(changes):
    assert definition_digest(replace(flights, **changes)) != definition_digest(flights)


def test_gates_judge_the_model_but_do_not_determine_it():
    assert definition_digest(replace(flights, gates=())) == definition_digest(flights)


def test_a_constant_beside_a_view_function_changes_the_digest(user_folder):
    before = digest_of_view_in(user_folder, USER_MODULE)
    assert digest_of_view_in(user_folder, USER_MODULE) == before
    changed = USER_MODULE.replace('frames["x"]', 'frames["y"]')
    assert digest_of_view_in(user_folder, changed) != before


def test_values_bound_into_a_function_change_the_digest():
    of_carrier, of_origin = flights.views[0], flights.views[1]
    swapped = replace(of_carrier, build=of_origin.build)
    other = replace(flights, views=(swapped, *flights.views[1:]))
    assert definition_digest(other) != definition_digest(flights)


def test_an_object_without_a_stable_text_cannot_be_pinned():
    bound = replace(flights.views[0], build=partial(flights.labels, object()))
    with pytest.raises(Misconfigured, match="cannot be pinned"):
        definition_digest(replace(flights, views=(bound,)))


def test_a_function_without_source_cannot_be_pinned():
    scope = {"__name__": "nowhere"}
    exec("def labels(frames): return frames['x']", scope)
    with pytest.raises(Misconfigured, match="cannot be read"):
        definition_digest(replace(flights, labels=scope["labels"]))


@pytest.mark.parametrize(
    ("comparator", "value", "passes"),
    [
        ("<=", "0.1", True),
        ("<=", "0.10000000000000000001", False),
        (">=", "0.1", True),
        (">=", "0.0999999999", False),
        ("<=", "NaN", False),
        (">=", "NaN", False),
        (">=", "Infinity", False),
    ],
)
def test_a_gate_compares_decimals_exactly_and_fails_closed(comparator, value, passes):
    assert Gate("log_loss", comparator, "0.1").passes(value) is passes


@pytest.mark.parametrize(("comparator", "threshold"), [("<", "1"), ("<=", "NaN"), ("<=", "one")])
def test_a_gate_that_cannot_be_judged_is_refused(comparator, threshold):
    with pytest.raises(Misconfigured, match="the gate on log_loss"):
        Gate("log_loss", comparator, threshold)


def test_history_reaches_back_by_the_longest_view():
    start = datetime(2013, 5, 1, tzinfo=UTC)
    assert flights.reads_since(start) == datetime(2013, 4, 25, tzinfo=UTC)


def test_a_view_that_never_expires_needs_all_history():
    forever = replace(flights.views[0], lifetime=None)
    assert replace(flights, views=(forever,)).reads_since(datetime(2013, 5, 1, tzinfo=UTC)) is None


def served(**changes: object) -> pl.DataFrame:
    now = datetime(2013, 5, 1, tzinfo=UTC)
    row = {"request_id": "r", "flight_id": "f", "at": now, "predicted_at": now}
    row |= {"release": "flights/3", "score": 0.25, **dict.fromkeys(flights.features), **changes}
    schema = {
        name: column.dtype for name, column in predictions(flights).contract.columns().items()
    }
    return pl.DataFrame([row], schema=schema)


def test_predictions_carry_every_feature_and_are_keyed_by_request_and_row():
    table = predictions(flights)
    assert table.key == ("request_id", "flight_id")
    assert issubclass(table.contract, dy.Schema)
    assert table.contract.is_valid(served())
    assert table.contract.is_valid(served(carrier="UA", seats=150.0))


@pytest.mark.parametrize("wrong", [{"score": 1.5}, {"release": "flights"}, {"request_id": None}])
def test_a_prediction_that_breaks_its_contract_is_seen(wrong):
    assert not predictions(flights).contract.is_valid(served(**wrong))
