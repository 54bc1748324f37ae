"""Headrace's own tables: name, key, contract and units of each, stated once.

The datasets of a pipeline are the user's and stand in its definition; here are the
tables that Headrace itself adds to the same repository.
"""

import dataframely as dy

from flows.pipeline import Dataset, Pipeline

PREDICTIONS = "predictions"

# What a quarantined row carries beside the dataset's own columns.
QUARANTINE_COLUMNS = ("_rule", "_column", "_batch")


def quarantine_table(dataset: str) -> str:
    """The name of the table that holds a dataset's quarantined rows."""
    return f"quarantine/{dataset}"


def predictions_dataset(pipeline: Pipeline) -> Dataset:
    """What was answered, to whom, by which release, from which feature values.

    Key: `request_id` and the pipeline's own key, since one request may carry many rows.
    Times are UTC: `at` is the moment the prediction is for, `predicted_at` the clock when
    it was made. `release` is "model/version". `score` is the probability of the positive
    class. Features may be null all through a batch: a silent feed must not stop the log.
    """
    free = {"may_be_all_null": True}
    columns: dict[str, dy.Column] = {
        "request_id": dy.String(primary_key=True, min_length=1, max_length=128),
        pipeline.key: dy.String(primary_key=True, min_length=1, max_length=256),
        "at": dy.Datetime(time_unit="us", time_zone="UTC"),
        "predicted_at": dy.Datetime(time_unit="us", time_zone="UTC"),
        "release": dy.String(regex=r"^[a-z0-9][a-z0-9-]*/[0-9]+$", max_length=128),
        "score": dy.Float64(min=0.0, max=1.0),
    }
    for name in pipeline.features:
        column = dy.String if name in pipeline.categorical else dy.Float64
        columns[name] = column(nullable=True, metadata=free)
    contract = type("Predictions", (dy.Schema,), columns)
    return Dataset(name=PREDICTIONS, contract=contract, event_time="at")


def datasets_of(pipeline: Pipeline) -> dict[str, Dataset]:
    """Everything that may land: the pipeline's datasets and Headrace's own."""
    own = predictions_dataset(pipeline)
    return {own.name: own, **{d.name: d for d in pipeline.datasets}}
