"""Fit: the same rows, seed and hyperparameters give the same model, bit for bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from flows.arrays import Floats
from flows.errors import EmptyWindow
from flows.learn.exported import Encoding
from flows.pipeline import Estimator, Param, Pipeline


@dataclass(frozen=True)
class Fitted:
    """An estimator and the encoding that it was fitted behind."""

    estimator: Estimator
    encoding: Encoding
    hyperparameters: Mapping[str, Param]
    seed: int

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Probability of the positive class, shape (n,)."""
        with threadpool_limits(limits=1):
            scores: Floats = self.estimator.predict_proba(self.encoding.matrix(frame))[:, 1]
        return scores


def learn_encoding(
    train: pl.DataFrame, features: Sequence[str], categorical: Sequence[str]
) -> Encoding:
    """Categories in alphabetical order, so that row order cannot matter."""
    categories = {name: tuple(train[name].drop_nulls().unique().sort()) for name in categorical}
    return Encoding(tuple(features), categories)


def fit(
    pipeline: Pipeline,
    train: pl.DataFrame,
    *,
    hyperparameters: Mapping[str, Param] | None = None,
    seed: int = 0,
) -> Fitted:
    """Fit on a `training_frame`; `hyperparameters` override the pipeline's one by one.

    One thread: with more, OpenMP adds up gradients in no fixed order and the model could
    not be reproduced.
    Raises: EmptyWindow if there is no row.
    """
    if train.is_empty():
        raise EmptyWindow(f"nothing to fit {pipeline.name} on")
    parameters = {**pipeline.hyperparameters, **(hyperparameters or {})}
    encoding = learn_encoding(train, pipeline.features, pipeline.categorical)
    estimator = pipeline.estimator({**parameters, "random_state": seed})
    with threadpool_limits(limits=1):
        estimator.fit(encoding.matrix(train), train["label"].to_numpy())
    _floor_thresholds(estimator)
    return Fitted(estimator, encoding, parameters, seed)


def _floor_thresholds(estimator: Any) -> None:
    """Make trees split at float32 numbers, so that ONNX cannot decide otherwise.

    scikit-learn splits at `x <= t` with t in double precision, ONNX with t rounded to
    float32, and rounding up sends x = t the other way. For every float32 x the largest
    float32 not above t decides exactly as t does.
    """
    for trees in getattr(estimator, "_predictors", ()):
        for tree in trees:
            exact = tree.nodes["num_threshold"]
            nearest = exact.astype(np.float32)
            below = np.nextafter(nearest, np.float32(-np.inf))
            tree.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)
