import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from examples.flights.pipeline import pipeline
from flows.errors import EmptyWindow
from flows.learn.fit import fit, learn_encoding
from flows.train.export import to_onnx


def test_the_model_is_better_than_the_base_rate_on_later_flights(fitted, split):
    label, scores = split.holdout["label"].to_numpy(), fitted.predict(split.holdout)
    constant = np.full(len(label), split.train["label"].mean())
    assert roc_auc_score(label, scores) > 0.7
    assert log_loss(label, scores) < log_loss(label, constant) - 0.03


def test_the_same_rows_and_seed_give_the_same_bytes(fitted, split):
    assert to_onnx(fit(pipeline, split.train)) == to_onnx(fitted)


def test_one_changed_label_gives_another_model(fitted, split):
    first = split.train.head(1).with_columns(label=1 - pl.col("label"))
    changed = pl.concat([first, split.train.tail(-1)])
    assert to_onnx(fit(pipeline, changed)) != to_onnx(fitted)


def test_hyperparameters_override_the_pipelines_one_by_one(split):
    small = fit(pipeline, split.train.head(3000), hyperparameters={"max_iter": 3})
    assert small.estimator.n_iter_ == 3
    assert small.estimator.learning_rate == pipeline.hyperparameters["learning_rate"]
    assert small.hyperparameters == {**pipeline.hyperparameters, "max_iter": 3}


def test_every_threshold_is_a_float32_that_decides_as_the_fitted_one_did(fitted):
    for (tree,) in fitted.estimator._predictors:
        thresholds = tree.nodes["num_threshold"]
        assert (thresholds == thresholds.astype(np.float32)).all()


def test_flooring_thresholds_moves_no_training_row(split):
    def unfloored(parameters):
        estimator = pipeline.estimator(parameters)
        estimator_fit = estimator.fit

        def fit_and_keep(x, y):
            estimator_fit(x, y)
            estimator.before = estimator.predict_proba(x)

        estimator.fit = fit_and_keep
        return estimator

    from dataclasses import replace

    train = split.train.head(5000)
    fitted = fit(replace(pipeline, estimator=unfloored), train)
    np.testing.assert_array_equal(fitted.estimator.before[:, 1], fitted.predict(train))


def test_row_order_does_not_change_the_encoding(split):
    shuffled = split.train.sample(fraction=1.0, shuffle=True, seed=7)
    both = [
        learn_encoding(f, pipeline.features, pipeline.categorical) for f in (split.train, shuffled)
    ]
    assert both[0].to_json() == both[1].to_json()


def test_nulls_and_unseen_categories_are_missing_values(fitted, split):
    rows = split.train.head(3).with_columns(
        carrier=pl.Series(["UA", "ZZ", None]), seats=pl.Series([1.5, None, 2.0])
    )
    matrix = fitted.encoding.matrix(rows)
    assert matrix.dtype == np.float32
    carrier = fitted.encoding.features.index("carrier")
    known = fitted.encoding.categories["carrier"].index("UA")
    np.testing.assert_array_equal(matrix[:, carrier], [known, np.nan, np.nan])
    np.testing.assert_array_equal(
        matrix[:, fitted.encoding.features.index("seats")], [1.5, np.nan, 2.0]
    )


def test_nothing_to_fit_on_is_an_empty_window(split):
    with pytest.raises(EmptyWindow):
        fit(pipeline, split.train.clear())
