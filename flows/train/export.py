"""From a fitted model to the files of a candidate.

`model.onnx` serves, `model.skops` is for retraining, inspection and the gatekeeper's comparison.
Converters take seconds to import, so they are imported where they are used.
"""

import json
from collections.abc import Mapping

import polars as pl

from flows.learn.exported import ENCODING, EXAMPLE, INPUT, MODEL, SKOPS, Encoding
from flows.learn.fit import Fitted

# Read by every onnxruntime since 1.13; ai.onnx.ml 3 is what tree ensembles need.
OPSETS = {"": 17, "ai.onnx.ml": 3}

_EXAMPLE_ROWS = 3


def export(fitted: Fitted, rows: pl.DataFrame) -> Mapping[str, bytes]:
    """The candidate's files by name; the example input is the first of `rows`."""
    import skops.io

    return {
        MODEL: to_onnx(fitted),
        SKOPS: skops.io.dumps(fitted.estimator),
        ENCODING: fitted.encoding.to_json(),
        EXAMPLE: example_input(fitted.encoding, rows),
    }


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


def example_input(encoding: Encoding, rows: pl.DataFrame) -> bytes:
    """The first rows as JSON: a list of feature name -> value, ready to be sent."""
    return json.dumps(rows.head(_EXAMPLE_ROWS).select(encoding.features).to_dicts()).encode()
