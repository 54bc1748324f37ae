"""From a fitted model to the files of a release, and the proof that they are one model.

`model.onnx` serves, `model.skops` is for retraining and inspection. Converters are known
to produce wrong models without a word, so an export is judged by its predictions.
They take seconds to import, so they are imported where they are used.
"""

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.learn.fit import Encoding, Fitted

# Read by every onnxruntime since 1.13; ai.onnx.ml 3 is what tree ensembles need.
OPSETS = {"": 17, "ai.onnx.ml": 3}
INPUT, PROBABILITIES = "features", "probabilities"

MODEL, SKOPS, ENCODING, EXAMPLE = "model.onnx", "model.skops", "encoding.json", "example.json"

_EXAMPLE_ROWS = 3
_TIMED_ROWS = 200


@dataclass(frozen=True)
class Exported:
    """A release's files by name, and what was measured of them.

    onnx_max_abs_diff: the largest difference in probability to scikit-learn over
    `rows_compared` rows. row_latency_us: median time of one row through ONNX.
    """

    files: Mapping[str, bytes]
    onnx_max_abs_diff: float
    rows_compared: int
    row_latency_us: float

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: len(content) for name, content in self.files.items()}


def export(fitted: Fitted, rows: pl.DataFrame) -> Exported:
    """Export and compare on `rows` (a `training_frame`, at best the holdout).

    The comparison adds rows in which every feature is null and every category unknown.
    """
    import skops.io

    onnx = to_onnx(fitted)
    probe = np.vstack([fitted.encoding.matrix(rows), _hostile(fitted.encoding, rows)])
    session = open_session(onnx)
    reference = fitted.estimator.predict_proba(probe)
    difference = np.abs(_run(session, probe) - reference).max()
    files = {
        MODEL: onnx,
        SKOPS: skops.io.dumps(fitted.estimator),
        ENCODING: fitted.encoding.to_json(),
        EXAMPLE: example_input(fitted.encoding, rows),
    }
    latency = _median_latency_us(session, probe[:_TIMED_ROWS])
    return Exported(files, float(difference), len(probe), latency)


def to_onnx(fitted: Fitted) -> bytes:
    """One float32 tensor `features` (n, features) in, `probabilities` (n, 2) out."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    width = len(fitted.encoding.features)
    model = convert_sklearn(
        fitted.estimator,
        name="headrace",
        initial_types=[(INPUT, FloatTensorType([None, width]))],
        options={id(fitted.estimator): {"zipmap": False}},
        target_opset=OPSETS,
    )
    content: bytes = model.SerializeToString()
    return content


def open_session(onnx: bytes) -> Any:
    """An onnxruntime session on one thread, which is fastest for single rows."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def example_input(encoding: Encoding, rows: pl.DataFrame) -> bytes:
    """The first rows as JSON: a list of feature name -> value, ready to be sent."""
    return json.dumps(rows.head(_EXAMPLE_ROWS).select(encoding.features).to_dicts()).encode()


def reference_rows(fitted: Fitted, frame: pl.DataFrame) -> pl.DataFrame:
    """What drift is later compared with: `at`, the features, `score` and `label`."""
    scores = pl.Series("score", fitted.predict(frame))
    return frame.select("at", *fitted.encoding.features, "label").with_columns(scores)


def _hostile(encoding: Encoding, rows: pl.DataFrame) -> NDArray[np.float32]:
    """Real rows with every feature in turn missing, and one row with nothing at all."""
    width = len(encoding.features)
    matrix = np.repeat(encoding.matrix(rows.head(1)), width + 1, axis=0)
    matrix[np.arange(width), np.arange(width)] = np.nan
    matrix[width] = np.nan
    return matrix


def _run(session: Any, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    output: NDArray[np.float32] = session.run([PROBABILITIES], {INPUT: matrix})[0]
    return output


def _median_latency_us(session: Any, matrix: NDArray[np.float32]) -> float:
    times = []
    for i in range(len(matrix)):
        start = time.perf_counter_ns()
        _run(session, matrix[i : i + 1])
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3
