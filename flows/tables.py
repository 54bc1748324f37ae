"""Headrace's own tables: name, key, contract and units of each, stated once.

The datasets of a pipeline are the user's and stand in its definition; here are the
tables that Headrace itself adds to the same repository.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import dataframely as dy

from flows.pipeline import Dataset, Pipeline

PREDICTIONS = "predictions"
# What the service writes; a moment is UTC, in microseconds.
Kind = Literal["String", "Float64", "Moment"]

# What a quarantined row carries beside the dataset's own columns.
QUARANTINE_COLUMNS = ("_rule", "_column", "_batch")


def quarantine_table(dataset: str) -> str:
    """The name of the table that holds a dataset's quarantined rows."""
    return f"quarantine/{dataset}"


def list_prediction_columns(
    key: str, features: Iterable[str], categorical: Collection[str]
) -> dict[str, Kind]:
    """The columns of the predictions table in their order, and the kind of each.

    The prediction service writes its spool by them, and `predictions_dataset` is their contract.
    """
    return {
        "request_id": "String",
        key: "String",
        "at": "Moment",
        "predicted_at": "Moment",
        "release": "String",
        "score": "Float64",
        **{name: "String" if name in categorical else "Float64" for name in features},
    }


def predictions_dataset(pipeline: Pipeline) -> Dataset:
    """What was answered, to whom, by which release, from which feature values.

    Key: `request_id` and the pipeline's own key, since one request may carry many rows.
    Times are UTC: `at` is the moment the prediction is for, `predicted_at` the clock when
    it was made. `release` is "model/version". `score` is the probability of the positive
    class. Features may be null all through a batch: a silent feed must not stop the log.
    """
    limits: dict[str, dict[str, Any]] = {
        "request_id": {"primary_key": True, "min_length": 1, "max_length": 128},
        pipeline.key: {"primary_key": True, "min_length": 1, "max_length": 256},
        "release": {"regex": r"^[a-z0-9][a-z0-9-]*/[0-9]+$", "max_length": 128},
        "score": {"min": 0.0, "max": 1.0},
    }
    for name in pipeline.features:
        limits[name] = {"nullable": True, "metadata": {"may_be_all_null": True}}
    kinds = list_prediction_columns(pipeline.key, pipeline.features, pipeline.categorical)
    columns = {name: _make_column(kind, limits.get(name, {})) for name, kind in kinds.items()}
    contract = type("Predictions", (dy.Schema,), columns)
    return Dataset(name=PREDICTIONS, contract=contract, event_time="at")


def datasets_of(pipeline: Pipeline) -> dict[str, Dataset]:
    """Everything that may land: the pipeline's datasets and Headrace's own."""
    own = predictions_dataset(pipeline)
    return {own.name: own, **{d.name: d for d in pipeline.datasets}}


def _make_column(kind: Kind, limits: Mapping[str, Any]) -> dy.Column:
    match kind:
        case "String":
            return dy.String(**limits)
        case "Float64":
            return dy.Float64(**limits)
        case "Moment":
            return dy.Datetime(time_unit="us", time_zone="UTC", **limits)
