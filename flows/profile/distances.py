"""Distances between two sketches of a column: PSI, Jensen-Shannon, KS, Wasserstein; moments."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flows.arrays import Floats
from flows.errors import EmptyWindow
from flows.profile.grid import Cells
from flows.profile.sketch import ColumnSketch

_BINS = 10
_SMALLEST_SHARE = 1e-4


@dataclass(frozen=True)
class Distances:
    """How far a column moved; for ranking only. `ks` and `w1_sd` are None for categories.

    Units: w1_sd in reference standard deviations, js in sqrt(bits) within 0..1.
    """

    psi: float
    js: float
    ks: float | None
    w1_sd: float | None


def distances(window: ColumnSketch, reference: ColumnSketch) -> Distances:
    """All distances of one column. Raises: EmptyWindow if a side has no value."""
    if not isinstance(window.axis, Cells):
        return Distances(psi(window, reference), jensen_shannon(window, reference), None, None)
    spread = sd(reference)
    w1 = wasserstein(window, reference)
    return Distances(
        psi(window, reference),
        jensen_shannon(window, reference),
        kolmogorov_smirnov(window, reference),
        w1 / spread if spread > 0 else math.copysign(math.inf, w1) if w1 else 0.0,
    )


def psi(window: ColumnSketch, reference: ColumnSketch) -> float:
    """Population stability index over the reference's tenths, or over its names.

    Shares are floored at 1e-4, so one empty bin weighs at most ln(1e4) of the other's share.
    Source: N. Siddiqi, Credit Risk Scorecards (2006), ch. 6.
    """
    p, q = (np.maximum(s, _SMALLEST_SHARE) for s in _bin_shares(window, reference))
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(window: ColumnSketch, reference: ColumnSketch) -> float:
    """Jensen-Shannon distance, base 2, over the bins of `psi`.

    Source: J. Lin, IEEE Trans. Inf. Theory 37 (1991), 145-151; its square root is a metric.
    """
    p, q = _bin_shares(window, reference)
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2))


def kolmogorov_smirnov(window: ColumnSketch, reference: ColumnSketch) -> float:
    """Largest gap of the two distribution functions at the cell edges.

    Never above the exact statistic, and below it by at most `ks_error_bound`.
    """
    return float(np.abs(_cumulative_gap(window, reference)).max())


def ks_error_bound(window: ColumnSketch, reference: ColumnSketch) -> float:
    """What one cell can hide: within it the functions part by at most the smaller share."""
    return float(np.minimum(_shares(window), _shares(reference)).max())


def wasserstein(window: ColumnSketch, reference: ColumnSketch) -> float:
    """W1, the area between the distribution functions, in the column's unit.

    Values beyond the grid count as if they stood at its edge.
    """
    axis = window.axis
    if not isinstance(axis, Cells):
        raise TypeError("W1 needs an ordered axis")
    gap = _cumulative_gap(window, reference)[:-1]
    return float(np.abs(gap) @ np.diff(axis.midpoints))


def mean(column: ColumnSketch) -> float:
    """Mean of a numeric column, to half a cell, values beyond the grid at its edge."""
    return float(_shares(column) @ _values(column))


def sd(column: ColumnSketch) -> float:
    """Standard deviation of a numeric column, to half a cell."""
    return math.sqrt(float(_shares(column) @ (_values(column) - mean(column)) ** 2))


def new_names(window: ColumnSketch) -> Mapping[str, int]:
    """Names the reference does not list, with their rows; at most the first 64."""
    return window.new_names


def _values(column: ColumnSketch) -> Floats:
    if not isinstance(column.axis, Cells):
        raise TypeError("categories have no mean")
    return column.axis.midpoints


def _shares(column: ColumnSketch) -> Floats:
    if not column.present:
        raise EmptyWindow("a column without a value cannot be compared")
    return column.counts / column.present


def _cumulative_gap(window: ColumnSketch, reference: ColumnSketch) -> Floats:
    return np.cumsum(_shares(window) - _shares(reference))


def _bin_shares(window: ColumnSketch, reference: ColumnSketch) -> tuple[Floats, Floats]:
    p, q = _shares(window), _shares(reference)
    if not isinstance(window.axis, Cells):
        return p, q
    tenths = np.searchsorted(np.cumsum(q), np.arange(1, _BINS) / _BINS) + 1
    starts = np.unique(np.concatenate(([0], tenths[tenths < q.size])))
    return np.add.reduceat(p, starts), np.add.reduceat(q, starts)


def _relative_entropy(p: Floats, q: Floats) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())
