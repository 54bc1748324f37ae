import json
from dataclasses import replace

import numpy as np
import polars as pl
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier

from examples.flights.pipeline import pipeline
from flows.gate.measure import judge_gates
from flows.learn.fit import fit
from flows.service.models.encode import Encoder, read_encoding

TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def test_onnx_agrees_with_scikit_learn_on_real_rows_nulls_and_unseen_categories(
    fitted, model, split, export_and_compare
):
    strange = split.holdout.head(400).with_columns(
        carrier=pl.lit("ZZ"), dest=pl.lit(None, dtype=pl.String), temp_f=pl.lit(1e30)
    )
    rows = pl.concat([split.holdout, strange])
    assert export_and_compare(fitted, rows).onnx_max_abs_diff <= 1e-6
    np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), atol=1e-6)


def test_values_one_float32_step_apart_are_not_confused(export_and_compare):
    """Their midpoint rounds to one of them; without floored thresholds ONNX is off by .27."""
    low = np.nextafter(np.float32(0.3), np.float32(1))
    steps = [float(low), float(np.nextafter(low, np.float32(1)))] * 200
    alone = replace(pipeline, features=("load",), categorical=(), gates=())
    rows = pl.DataFrame({"load": steps, "label": [0, 1] * 200})
    fitted = fit(alone, rows)
    assert np.ptp(fitted.predict(rows)) > 0.5
    assert export_and_compare(fitted, rows).onnx_max_abs_diff <= 1e-6


def test_the_model_takes_one_float32_tensor_and_gives_two_probabilities(model):
    (given,) = model.session.get_inputs()
    assert (given.name, given.type) == ("features", "tensor(float)")
    assert given.shape[1] == len(pipeline.features)
    out = model.probabilities(np.zeros((5, given.shape[1]), np.float32))
    assert out.shape == (5, 2)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, atol=1e-6)


def test_the_skops_file_loads_with_trees_as_its_only_trusted_type(files, fitted, split):
    content = files["model.skops"]
    assert skops.io.get_untrusted_types(data=content) == [TREES]
    loaded = skops.io.loads(content, trusted=[TREES])
    matrix = fitted.encoding.matrix(split.holdout)
    np.testing.assert_array_equal(
        loaded.predict_proba(matrix), fitted.estimator.predict_proba(matrix)
    )


def test_the_example_can_be_sent_as_it_is(files, fitted, split):
    rows = json.loads(files["example.json"])
    encoder = Encoder(read_encoding(files["encoding.json"]))
    np.testing.assert_array_equal(
        encoder.encode(rows), fitted.encoding.matrix(split.holdout.head(len(rows)))
    )


def test_the_size_that_is_judged_is_that_of_the_file(checks, files):
    assert checks.model_bytes == len(files["model.onnx"])
    assert checks.row_latency_us > 0


def test_a_converter_that_gets_the_model_wrong_is_stopped_by_the_agreement_gate(
    split, export_and_compare
):
    """Native categoricals convert without a word, and the ONNX file is another model."""

    def native(parameters):
        return HistGradientBoostingClassifier(categorical_features=[0, 1, 2], **parameters)

    wrong = replace(pipeline, estimator=native)
    fitted = fit(wrong, split.train)
    checks = export_and_compare(fitted, split.holdout)
    assert checks.onnx_max_abs_diff > 0.01
    failed = {e.gate.metric for e in judge_gates(wrong, fitted, split, checks) if not e.passed}
    assert "onnx_max_abs_diff" in failed
