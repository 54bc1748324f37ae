"""Performance measured once labels came: by day, by window, and against a challenger.

Frames hold one row a served prediction: `day` (date), `score` (champion's probability),
`label` (0, 1, or null until the truth arrives) and, optionally, `challenger_score`.

There are two calibration errors. Over bins of equal width it is the usual ECE, which a person
reads beside the reliability plot of the same bins. Where most scores are alike it rests on one or
two bins, and it is biased upwards where bins are nearly empty; over bins of equally many rows it is
neither, and that is the one a gate judges. They are different numbers: never compare one with the
other.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from flows.arrays import Floats
from flows.errors import EmptyWindow
from flows.profile.cbpe import SCORE_FLOOR, CalibrationMap, expected_log_loss, expected_roc_auc
from flows.profile.day_means import DayTest, mean_test, shift_test

_BINS = 10


@dataclass(frozen=True)
class Performance:
    """Of one day or window. `roc_auc` is None where only one class occurs.

    Units: log_loss in nats, brier a squared probability, calibration_error (over ten bins of
    equal width) a probability.
    """

    rows: int
    log_loss: float
    brier: float
    roc_auc: float | None
    calibration_error: float


@dataclass(frozen=True)
class EstimatedPerformance:
    """What calibrated scores imply before any label: CBPE. Units as in `Performance`."""

    rows: int
    log_loss: float
    roc_auc: float


def keep_labelled(scored: pl.DataFrame) -> pl.DataFrame:
    """The rows whose truth is known, in time order."""
    return scored.filter(pl.col("label").is_not_null()).sort("day", maintain_order=True)


def performance(scored: pl.DataFrame, *, score: str = "score") -> Performance:
    """Over all labelled rows. Raises: EmptyWindow if there is none."""
    rows = keep_labelled(scored)
    if rows.is_empty():
        raise EmptyWindow("no labelled rows", remedy="wait for labels, or decide on CBPE")
    whole = _by_day(rows.with_columns(day=pl.lit(date.min)), score)
    return _performance(whole.row(0, named=True))


def daily_performance(scored: pl.DataFrame, *, score: str = "score") -> dict[date, Performance]:
    """Of each day with labelled rows, in time order."""
    rows = _by_day(keep_labelled(scored), score).iter_rows(named=True)
    return {row["day"]: _performance(row) for row in rows}


def estimated_performance(
    scored: pl.DataFrame, calibration: CalibrationMap
) -> EstimatedPerformance:
    """CBPE over all rows, labelled or not. Raises: EmptyWindow if there is none."""
    rates = calibration.rates_of(scored["score"].to_numpy())
    return EstimatedPerformance(rates.size, expected_log_loss(rates), expected_roc_auc(rates))


def daily_expected_log_loss(scored: pl.DataFrame, calibration: CalibrationMap) -> dict[date, float]:
    """CBPE's log loss of each day, in nats, in time order."""
    days = scored.sort("day", maintain_order=True).partition_by("day", as_dict=True)
    return {
        key[0]: expected_log_loss(calibration.rates_of(rows["score"].to_numpy()))
        for key, rows in days.items()
    }


def daily_excess(scored: pl.DataFrame) -> dict[date, float]:
    """Champion's log loss minus the challenger's on the same labelled rows, by day, in nats."""
    rows = keep_labelled(scored).filter(pl.col("challenger_score").is_not_null())
    days = rows.group_by("day", maintain_order=True).agg(
        excess=(_row_log_loss("score") - _row_log_loss("challenger_score")).mean()
    )
    return dict(days.iter_rows())


def challenger_advantage(scored: pl.DataFrame) -> DayTest:
    """Paired test of `daily_excess`: positive when the challenger is better.

    Both score the same rows, so what makes a day hard cancels out.
    Raises: EmptyWindow with too few labelled days.
    Source: Diebold and Mariano, J. Bus. Econ. Stat. 13 (1995), 253-263.
    """
    return mean_test(list(daily_excess(scored).values()), unit="nats a prediction")


def degradation(scored: pl.DataFrame, holdout_log_loss: ArrayLike) -> DayTest:
    """Day-mean log loss against the release's own holdout days: positive when worse.

    Confounds staleness with season: a harder month looks the same. Prefer a challenger.
    Raises: EmptyWindow with too few days on a side.
    """
    days = keep_labelled(scored).group_by("day", maintain_order=True)
    means = days.agg(loss=_row_log_loss("score").mean())["loss"]
    return shift_test(means.to_numpy(), holdout_log_loss, unit="nats a prediction")


def estimated_degradation(
    scored: pl.DataFrame, calibration: CalibrationMap, holdout_expected: ArrayLike
) -> DayTest:
    """As `degradation`, with CBPE's estimates on both sides: needs no label."""
    days = list(daily_expected_log_loss(scored, calibration).values())
    return shift_test(days, holdout_expected, unit="nats a prediction")


def calibration_bias(scored: pl.DataFrame) -> DayTest:
    """Day means of label minus score against zero: positive when risk is underestimated."""
    days = keep_labelled(scored).group_by("day", maintain_order=True)
    bias = days.agg(bias=(pl.col("label") - pl.col("score")).mean())["bias"]
    return mean_test(bias.to_numpy(), unit="probability")


def equal_mass_calibration_error(label: Floats, scores: Floats) -> float:
    """Expected calibration error over ten bins of equally many rows, as the gate judges it.

    Source: Roelofs et al., AISTATS (2022), 4036-4054: its bias is the smaller of the two.
    """
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, min(_BINS, len(order)))
    gaps = [len(b) * abs(scores[b].mean() - label[b].mean()) for b in bins]
    return float(sum(gaps) / len(order))


def reliability(scored: pl.DataFrame, *, score: str = "score") -> pl.DataFrame:
    """Mean score, rate of positives and rows in ten equal score bins: a calibration plot."""
    rows = keep_labelled(scored)
    bins = rows.group_by((pl.col(score) * _BINS).floor().clip(0, _BINS - 1).alias("bin"))
    return bins.agg(
        mean_score=pl.col(score).mean(), rate=pl.col("label").mean(), rows=pl.len()
    ).sort("bin")


def _row_log_loss(score: str) -> pl.Expr:
    p = pl.col(score).cast(pl.Float64).clip(SCORE_FLOOR, 1 - SCORE_FLOOR)
    return -pl.when(pl.col("label") == 1).then(p.log()).otherwise((-p).log1p())


def _by_day(rows: pl.DataFrame, score: str) -> pl.DataFrame:
    positive = (pl.col("label") == 1).sum().cast(pl.Float64)
    pairs = positive * (pl.len() - positive)
    ranks = pl.col(score).rank("average").filter(pl.col("label") == 1).sum()
    measured = rows.group_by("day", maintain_order=True).agg(
        rows=pl.len(),
        log_loss=_row_log_loss(score).mean(),
        brier=((pl.col("label") - pl.col(score)) ** 2).mean(),
        # Mann and Whitney, Ann. Math. Stat. 18 (1947): the area from rank sums.
        roc_auc=pl.when(pairs > 0).then((ranks - positive * (positive + 1) / 2) / pairs),
    )
    return measured.join(_equal_width_error(rows, score), on="day", maintain_order="left")


def _equal_width_error(rows: pl.DataFrame, score: str) -> pl.DataFrame:
    """Expected calibration error of each day over ten bins of equal width.

    Source: Naeini et al., AAAI (2015), 2901-2907.
    """
    bins = rows.group_by("day", (pl.col(score) * _BINS).floor().clip(0, _BINS - 1).alias("bin"))
    gaps = bins.agg(gap=(pl.col("label") - pl.col(score)).sum().abs(), size=pl.len())
    return gaps.group_by("day").agg(calibration_error=pl.col("gap").sum() / pl.col("size").sum())


def _performance(row: dict[str, float]) -> Performance:
    return Performance(
        int(row["rows"]), row["log_loss"], row["brier"], row["roc_auc"], row["calibration_error"]
    )
