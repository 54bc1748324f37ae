"""Gates: what a candidate must prove before anybody may sign it.

Metrics, all on the holdout unless said otherwise:
  roc_auc, log_loss, brier    as in scikit-learn
  calibration_error           mean |predicted - observed| over ten bins of equally many rows
  <any of these> by group     the widest gap between two groups of a categorical feature
  base_rate_gap               distance of the training set's share of positives from usual
  single_feature_roc_auc      the best that one feature alone can do: near 1 it is the label
  log_loss_excess             over the champion on the same rows; below 0 is better
  onnx_max_abs_diff, model_bytes, row_latency_us    of the export

A value is rounded to a decimal string once and judged as that string, so that whoever
verifies the evidence comes to the same result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from flows.arrays import Floats, Floats32
from flows.gate.parity import Parity
from flows.learn.dataset import Split
from flows.learn.exported import Encoding
from flows.pipeline import Gate, Pipeline
from flows.pipeline.gate_rules import CHAMPION
from flows.profile.performance import equal_mass_calibration_error

_GROUP_ROWS = 200
_LEAKAGE_ROWS = 20_000


@dataclass(frozen=True)
class JudgedGate:
    """A gate and what was measured for it: a decimal string, or NaN; `detail` says of what."""

    gate: Gate
    value: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is within the gate's bound."""
        return self.gate.passes(self.value)

    @property
    def title(self) -> str:
        """The metric's name, for people."""
        gate = self.gate
        return f"{gate.metric} gap by {gate.group_by}" if gate.group_by else gate.metric

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        bound = f"{self.gate.comparator} {self.gate.threshold}"
        return f"{self.title} {self.value}, must be {bound}{detail}"


@dataclass(frozen=True)
class MetricValue:
    """A metric's value, and what a person needs to know to act on it."""

    value: float
    detail: str = ""


class Model(Protocol):
    """What is judged: the payload's ONNX model, or in a test an estimator."""

    @property
    def encoding(self) -> Encoding:
        """How rows become its input."""

    def predict(self, frame: pl.DataFrame, /) -> Floats:
        """Probability of the positive class, shape (n,)."""


def judge_gates(
    pipeline: Pipeline,
    candidate: Model,
    split: Split,
    export: Parity,
    *,
    champion_scores: Floats | None = None,
) -> tuple[JudgedGate, ...]:
    """Every gate of the pipeline, and the champion's if there is one, in that order.

    `champion_scores` are the champion's probabilities for the rows of `split.holdout`.
    A metric that cannot be computed fails its gate.
    """
    label = split.holdout["label"].to_numpy()
    scores = candidate.predict(split.holdout)
    measured = {
        **measure_scores(label, scores),
        **_measure_export(export),
        "base_rate_gap": _base_rate_gap(pipeline, split.train),
        "single_feature_roc_auc": find_best_feature(candidate, split),
    }
    evidence = [
        judge_gate(
            gate, _gap(gate, split.holdout, scores) if gate.group_by else measured.get(gate.metric)
        )
        for gate in pipeline.gates
    ]
    if champion_scores is not None:
        evidence.append(judge_gate(CHAMPION, _excess(label, scores, champion_scores)))
    return tuple(evidence)


def judge_gate(gate: Gate, measured: MetricValue | None) -> JudgedGate:
    """A gate against a measurement; what was not measured does not pass."""
    found = measured or MetricValue(float("nan"), "not measured")
    return JudgedGate(gate, write_decimal(found.value), found.detail)


def write_decimal(value: float) -> str:
    """Nine places at most, no exponent: `0.746`, `268111`, `NaN`."""
    if not np.isfinite(value):
        return "NaN"
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def measure_scores(label: Floats, scores: Floats) -> dict[str, MetricValue]:
    """The metrics of probabilities against labels of 0 and 1; NaN where undefined."""
    return {name: MetricValue(metric(label, scores)) for name, metric in _METRICS.items()}


def find_best_feature(candidate: Model, split: Split) -> MetricValue:
    """The feature that predicts best on its own, by a small tree over its values and gaps.

    A tree finds a label that is hidden in a feature's nulls, or anywhere in its range.
    """
    encode = candidate.encoding.matrix
    step = max(1, split.train.height // _LEAKAGE_ROWS)
    sample = split.train.gather_every(step)
    x, y = encode(sample), sample["label"].to_numpy()
    later, truth = encode(split.holdout), split.holdout["label"].to_numpy()
    scores = {
        name: _auc_alone(x[:, [i]], y, later[:, [i]], truth)
        for i, name in enumerate(candidate.encoding.features)
    }
    best = max(scores, key=scores.__getitem__)
    return MetricValue(scores[best], best)


def _auc_alone(x: Floats32, y: Floats, later: Floats32, truth: Floats) -> float:
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=32, min_samples_leaf=20, random_state=0)
    tree.fit(x, y)
    auc = _roc_auc(truth, tree.predict_proba(later)[:, 1])
    return max(auc, 1.0 - auc)


def _base_rate_gap(pipeline: Pipeline, train: pl.DataFrame) -> MetricValue:
    share = float(train["label"].to_numpy().mean())
    return MetricValue(abs(share - pipeline.base_rate), f"{share:.3f} of the training rows")


def _measure_export(export: Parity) -> dict[str, MetricValue]:
    rows = f"over {export.rows_compared} rows"
    return {
        "onnx_max_abs_diff": MetricValue(export.onnx_max_abs_diff, rows),
        "model_bytes": MetricValue(export.model_bytes),
        "row_latency_us": MetricValue(export.row_latency_us),
    }


def _excess(label: Floats, scores: Floats, champion: Floats) -> MetricValue:
    ours, theirs = _log_loss(label, scores), _log_loss(label, champion)
    return MetricValue(ours - theirs, f"{ours:.5f} against {theirs:.5f}")


def _gap(gate: Gate, holdout: pl.DataFrame, scores: Floats) -> MetricValue:
    """Widest gap between groups that have enough rows to be compared."""
    metric = _METRICS.get(gate.metric)
    if metric is None:
        return MetricValue(float("nan"), "not a metric that groups can be compared by")
    scored = holdout.select(gate.group_by, "label").with_columns(pl.Series("score", scores))
    by_group = {
        str(name): metric(rows["label"].to_numpy(), rows["score"].to_numpy())
        for (name,), rows in scored.group_by(gate.group_by, maintain_order=True)
        if rows.height >= _GROUP_ROWS and rows["label"].n_unique() == 2
    }
    if len(by_group) < 2:
        return MetricValue(float("nan"), f"fewer than two groups of {_GROUP_ROWS} rows")
    low, high = min(by_group, key=by_group.__getitem__), max(by_group, key=by_group.__getitem__)
    detail = f"{low} {by_group[low]:.3f}, {high} {by_group[high]:.3f}"
    return MetricValue(by_group[high] - by_group[low], detail)


def _roc_auc(label: Floats, scores: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, scores)) if len(np.unique(label)) == 2 else float("nan")


def _log_loss(label: Floats, scores: Floats) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(label, scores, labels=[0, 1]))


def _brier(label: Floats, scores: Floats) -> float:
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(label, scores))


_METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "roc_auc": _roc_auc,
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_error": equal_mass_calibration_error,
}
