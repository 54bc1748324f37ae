import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier

from examples.flights.pipeline import pipeline
from flows.errors import GateFailed
from flows.learn.fit import fit
from flows.serve.encode import Encoder
from flows.train.export import export, open_session, reference_rows
from flows.train.gates import judge, require_passed

TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def onnx_scores(onnx: bytes, matrix: np.ndarray) -> np.ndarray:
    return open_session(onnx).run(["probabilities"], {"features": matrix})[0][:, 1]


def test_onnx_agrees_with_scikit_learn_on_real_rows_nulls_and_unseen_categories(fitted, split):
    strange = split.holdout.head(400).with_columns(
        carrier=pl.lit("ZZ"), dest=pl.lit(None, dtype=pl.String), temp_f=pl.lit(1e30)
    )
    rows = pl.concat([split.holdout, strange])
    exported = export(fitted, rows)
    assert exported.onnx_max_abs_diff <= 1e-6
    scores = onnx_scores(exported.files["model.onnx"], fitted.encoding.matrix(rows))
    np.testing.assert_allclose(scores, fitted.predict(rows), atol=1e-6)


def test_values_one_float32_step_apart_are_not_confused():
    """Their midpoint rounds to one of them; without floored thresholds ONNX is off by .27."""
    low = np.nextafter(np.float32(0.3), np.float32(1))
    steps = [float(low), float(np.nextafter(low, np.float32(1)))] * 200
    alone = replace(pipeline, features=("load",), categorical=(), gates=())
    rows = pl.DataFrame({"load": steps, "label": [0, 1] * 200})
    fitted = fit(alone, rows)
    assert np.ptp(fitted.predict(rows)) > 0.5
    assert export(fitted, rows).onnx_max_abs_diff <= 1e-6


def test_the_model_takes_one_float32_tensor_and_gives_two_probabilities(exported):
    session = open_session(exported.files["model.onnx"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("features", "tensor(float)")
    assert given.shape[1] == len(pipeline.features)
    out = session.run(["probabilities"], {"features": np.zeros((5, given.shape[1]), np.float32)})
    assert out[0].shape == (5, 2)
    np.testing.assert_allclose(out[0].sum(axis=1), 1.0, atol=1e-6)


def test_the_skops_file_loads_with_trees_as_its_only_trusted_type(exported, fitted, split):
    content = exported.files["model.skops"]
    assert skops.io.get_untrusted_types(data=content) == [TREES]
    loaded = skops.io.loads(content, trusted=[TREES])
    matrix = fitted.encoding.matrix(split.holdout)
    np.testing.assert_array_equal(
        loaded.predict_proba(matrix), fitted.estimator.predict_proba(matrix)
    )


def test_the_example_can_be_sent_as_it_is(exported, fitted, split):
    rows = json.loads(exported.files["example.json"])
    encoder = Encoder.from_json(exported.files["encoding.json"])
    np.testing.assert_array_equal(
        encoder.encode(rows), fitted.encoding.matrix(split.holdout.head(len(rows)))
    )


def test_sizes_are_those_of_the_files(exported):
    assert exported.sizes == {name: len(content) for name, content in exported.files.items()}
    assert exported.row_latency_us > 0


def test_the_reference_holds_what_drift_is_compared_with(fitted, split):
    reference = reference_rows(fitted, split.train)
    assert reference.columns == ["at", *pipeline.features, "label", "score"]
    assert reference["score"].is_between(0, 1).all()


def test_a_converter_that_gets_the_model_wrong_is_stopped_by_the_agreement_gate(split):
    """Native categoricals convert without a word, and the ONNX file is another model."""

    def native(parameters):
        return HistGradientBoostingClassifier(categorical_features=[0, 1, 2], **parameters)

    wrong = replace(pipeline, estimator=native)
    fitted = fit(wrong, split.train)
    exported = export(fitted, split.holdout)
    assert exported.onnx_max_abs_diff > 0.01
    with pytest.raises(GateFailed, match="onnx_max_abs_diff"):
        require_passed(judge(wrong, fitted, split, exported))
