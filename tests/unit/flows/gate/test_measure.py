import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from examples.flights.pipeline import pipeline
from flows.gate.measure import (
    MetricValue,
    find_best_feature,
    judge_gate,
    judge_gates,
    measure_scores,
    write_decimal,
)
from flows.learn.fit import fit
from flows.pipeline import Gate
from security.policy.gates import GateResult


def failed(evidence) -> set[str]:
    return {e.gate.metric for e in evidence if not e.passed}


def with_feature(split, expression: pl.Expr):
    """The split with one honest feature replaced."""
    sides = {
        side: getattr(split, side).with_columns(seats=expression) for side in ("train", "holdout")
    }
    return replace(split, **sides)


def test_an_honest_candidate_passes_every_gate(fitted, split, checks):
    evidence = judge_gates(pipeline, fitted, split, checks)
    assert [e.gate.metric for e in evidence] == [gate.metric for gate in pipeline.gates]
    assert failed(evidence) == set()


def test_values_are_those_of_scikit_learn_to_nine_places(fitted, split, checks):
    evidence = {
        e.gate.metric: e.value
        for e in judge_gates(pipeline, fitted, split, checks)
        if not e.gate.group_by
    }
    label, scores = split.holdout["label"].to_numpy(), fitted.predict(split.holdout)
    assert float(evidence["roc_auc"]) == pytest.approx(roc_auc_score(label, scores), abs=1e-9)
    assert float(evidence["log_loss"]) == pytest.approx(log_loss(label, scores), abs=1e-9)
    assert float(evidence["brier"]) == pytest.approx(brier_score_loss(label, scores), abs=1e-9)


@pytest.mark.parametrize(
    "leak",
    [
        pl.col("label").cast(pl.Float64),
        1.0 - pl.col("label"),
        pl.when(pl.col("label") == 1).then(5.0),
        (pl.col("label") + 1) * (1 - 2 * (pl.col("distance_mi") % 2)),
    ],
    ids=["the label", "its opposite", "hidden in nulls", "both signs"],
)
def test_a_feature_that_is_the_label_is_refused_by_name(split, leak, export_and_compare):
    leaking = with_feature(split, leak)
    fitted = fit(pipeline, leaking.train.head(8000), hyperparameters={"max_iter": 5})
    evidence = judge_gates(
        pipeline, fitted, leaking, export_and_compare(fitted, leaking.holdout.head(500))
    )
    (alone,) = [e for e in evidence if e.gate.metric == "single_feature_roc_auc"]
    assert not alone.passed
    assert re.match(r"single_feature_roc_auc 1.*\(seats\)", str(alone))


def test_no_honest_feature_comes_near_to_the_label(fitted, split):
    assert 0.55 < find_best_feature(fitted, split).value < 0.8


def test_a_challenger_that_loses_on_the_same_rows_does_not_pass(fitted, split, checks):
    label = split.holdout["label"].to_numpy()
    better = np.clip(fitted.predict(split.holdout) + 0.02 * (2 * label - 1), 0, 1)
    evidence = judge_gates(pipeline, fitted, split, checks, champion_scores=better)
    assert failed(evidence) == {"log_loss_excess"}


def test_a_challenger_as_good_as_the_champion_passes(fitted, split, checks):
    evidence = judge_gates(
        pipeline, fitted, split, checks, champion_scores=fitted.predict(split.holdout)
    )
    assert (evidence[-1].gate.metric, evidence[-1].value, evidence[-1].passed) == (
        "log_loss_excess",
        "0",
        True,
    )


def test_five_percent_of_labels_flipped_keeps_the_old_model(fitted, split, checks):
    flip = pl.Series(np.random.default_rng(0).random(split.train.height) < 0.05)
    poisoned = split.train.with_columns(
        label=pl.when(flip).then(1 - pl.col("label")).otherwise("label")
    )
    challenger = fit(pipeline, poisoned)
    evidence = judge_gates(
        pipeline, challenger, split, checks, champion_scores=fitted.predict(split.holdout)
    )
    assert "log_loss_excess" in failed(evidence)


def test_a_broken_label_feed_shows_in_the_base_rate(fitted, split, checks):
    flipped = replace(split, train=split.train.with_columns(label=1 - pl.col("label")))
    assert "base_rate_gap" in failed(judge_gates(pipeline, fitted, flipped, checks))


def test_the_gap_between_groups_names_both_ends(fitted, split, checks):
    strict = replace(pipeline, gates=(Gate("roc_auc", "<=", "0.0001", group_by="origin"),))
    (evidence,) = judge_gates(strict, fitted, split, checks)
    scored = split.holdout.with_columns(pl.Series("score", fitted.predict(split.holdout)))
    by_origin = {
        name: roc_auc_score(rows["label"], rows["score"])
        for (name,), rows in scored.group_by("origin")
    }
    assert not evidence.passed
    assert float(evidence.value) == pytest.approx(
        max(by_origin.values()) - min(by_origin.values()), abs=1e-9
    )
    assert all(end in evidence.detail for end in (min(by_origin, key=by_origin.get),))


def test_a_gap_that_cannot_be_computed_fails(fitted, split, checks):
    few = replace(split, holdout=split.holdout.head(300))
    strict = replace(pipeline, gates=(Gate("roc_auc", "<=", "1", group_by="dest"),))
    (evidence,) = judge_gates(strict, fitted, few, checks)
    assert (evidence.passed, evidence.value) == (False, "NaN")


def test_a_gate_on_what_nobody_measured_fails(fitted, split, checks):
    unknown = replace(pipeline, gates=(Gate("accuracy", ">=", "0"),))
    (evidence,) = judge_gates(unknown, fitted, split, checks)
    assert (evidence.passed, evidence.detail) == (False, "not measured")


def test_a_value_is_judged_as_the_decimal_that_is_signed():
    evidence = judge_gate(Gate("roc_auc", ">=", "0.7"), MetricValue(0.7 - 1e-12))
    assert (evidence.value, evidence.passed) == ("0.7", True)
    assert GateResult("roc_auc", ">=", "0.7", evidence.value).passed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (268111.0, "268111"), (5.7e-07, "0.00000057"), (-1e-12, "0"), (np.inf, "NaN")],
)
def test_decimals_have_no_exponent(value, text):
    assert write_decimal(value) == text


def test_metrics_of_one_class_are_undefined_not_zero():
    measured = measure_scores(np.zeros(10), np.linspace(0, 1, 10))
    assert np.isnan(measured["roc_auc"].value)
