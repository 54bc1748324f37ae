"""The smallest release that serves: a model that answers one score to every row."""

import json
from typing import Any

from onnx import TensorProto, helper

ROW = {"carrier": "AA", "distance_mi": 100.0}


def tiny_model(score: float) -> dict[str, bytes]:
    """The payload's files, by name, as a server needs them."""
    encoding: dict[str, Any] = {"format": "headrace-encoding/v1", "features": list(ROW)}
    encoding["categories"] = {"carrier": ["AA", "B6"]}
    return {
        "model.onnx": constant_model(score),
        "encoding.json": json.dumps(encoding).encode(),
        "example.json": json.dumps([ROW]).encode(),
    }


def constant_model(score: float) -> bytes:
    """An ONNX model that answers `score` to every row."""
    nodes = [
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], axis=0),
        helper.make_node("Concat", ["rows", "one"], ["repeats"], axis=0),
        helper.make_node("Tile", ["pair", "repeats"], ["probabilities"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("pair", TensorProto.FLOAT, [1, 2], [1 - score, score]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())
