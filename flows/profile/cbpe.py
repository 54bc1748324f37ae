"""Performance estimated before labels arrive (CBPE): what calibrated scores imply."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flows.arrays import Floats
from flows.errors import EmptyWindow

# Served scores are float32: nothing closer to 0 or 1 can be told apart.
SCORE_FLOOR = 1e-7


@dataclass(frozen=True)
class CalibrationMap:
    """Scores to rates of positives, linear between increasing knots, flat beyond them."""

    scores: tuple[float, ...]
    rates: tuple[float, ...]

    @classmethod
    def fit(cls, scores: ArrayLike, labels: ArrayLike) -> "CalibrationMap":
        """Isotonic fit on labelled rows the model was not trained on.

        Source: Zadrozny and Elkan, KDD (2002), 694-699.
        """
        from sklearn.isotonic import IsotonicRegression  # late: costs more than all the rest

        fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(scores, labels)
        return cls(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))

    def rates_of(self, scores: ArrayLike) -> Floats:
        """The calibrated rate of each score."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.rates)


def expected_log_loss(rates: ArrayLike) -> float:
    """Mean log loss, in nats, if each row is positive with its calibrated rate.

    Blind to concept drift: it believes the rates. Raises: EmptyWindow for no rows.
    Source: Kivimäki et al., arXiv:2407.08649 (2024); NannyML's CBPE.
    """
    p = _rates(rates)
    return float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).mean())


def expected_roc_auc(rates: ArrayLike) -> float:
    """Expected concordant share of pairs, ties half, over the expected number of pairs.

    Source: as `expected_log_loss`.
    """
    p = np.sort(_rates(rates))
    _, group = np.unique(p, return_inverse=True)
    positives, negatives = np.bincount(group, weights=p), np.bincount(group, weights=1 - p)
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2) / (positives.sum() * negatives.sum()))


def _rates(rates: ArrayLike) -> Floats:
    p = np.asarray(rates, dtype=np.float64)
    if not p.size:
        raise EmptyWindow("no scores to estimate performance from")
    return np.clip(p, SCORE_FLOOR, 1 - SCORE_FLOOR)
