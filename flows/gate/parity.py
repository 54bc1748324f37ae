"""Whether the files of a payload are one model: converters go wrong without a word.

Known converters produce wrong models now and then, so an export is judged by its predictions,
on real rows and on hostile ones, against the estimator that was saved beside it.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from flows.arrays import Floats32
from flows.learn.exported import Encoding, Exported

_TIMED_ROWS = 200


@dataclass(frozen=True)
class Parity:
    """What was measured of an export.

    onnx_max_abs_diff: the largest difference in probability to scikit-learn over
    `rows_compared` rows. row_latency_us: median time of one row through ONNX.
    """

    onnx_max_abs_diff: float
    rows_compared: int
    row_latency_us: float
    model_bytes: int


def parity(model: Exported, estimator: Any, rows: pl.DataFrame) -> Parity:
    """Compare the ONNX model with the saved estimator on `rows` (at best the holdout).

    The comparison adds rows in which every feature is null and every category unknown.
    """
    probe = np.vstack([model.encoding.matrix(rows), _hostile(model.encoding, rows)])
    with threadpool_limits(limits=1):
        reference = estimator.predict_proba(probe)
    difference = np.abs(model.probabilities(probe) - reference).max()
    latency = _median_latency_us(model, probe[:_TIMED_ROWS])
    return Parity(float(difference), len(probe), latency, model.size)


def _hostile(encoding: Encoding, rows: pl.DataFrame) -> Floats32:
    """Real rows with every feature in turn missing, and one row with nothing at all."""
    width = len(encoding.features)
    matrix = np.repeat(encoding.matrix(rows.head(1)), width + 1, axis=0)
    matrix[np.arange(width), np.arange(width)] = np.nan
    matrix[width] = np.nan
    return matrix


def _median_latency_us(model: Exported, matrix: Floats32) -> float:
    times = []
    for i in range(len(matrix)):
        start = time.perf_counter_ns()
        model.probabilities(matrix[i : i + 1])
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3
