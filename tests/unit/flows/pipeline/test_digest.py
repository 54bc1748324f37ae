import importlib
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial

import dataframely as dy
import pytest

from examples.flights.pipeline import pipeline as flights
from flows.errors import Misconfigured
from flows.pipeline import definition_digest
from flows.pipeline.digest import digest_parts

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


def test_each_part_changes_with_what_it_is_of():
    parts = digest_parts(flights)
    assert parts["definition_sha256"] == definition_digest(flights)

    class Wider(flights.datasets[0].contract):
        extra = dy.String(nullable=True)

    wider = replace(flights.datasets[0], contract=Wider)
    changed = {
        "features": digest_parts(replace(flights, features=flights.features[::-1])),
        "schema": digest_parts(replace(flights, datasets=(wider, *flights.datasets[1:]))),
        "name": digest_parts(replace(flights, name="flights2")),
    }
    differing = {
        what: {name for name in parts if parts[name] != other[name]}
        for what, other in changed.items()
    }
    assert differing == {
        "features": {"definition_sha256", "features_sha256"},
        "schema": {"definition_sha256", "schema_sha256"},
        "name": {"definition_sha256"},
    }
