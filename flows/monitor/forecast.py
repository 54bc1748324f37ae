"""When the champion's excess loss would reach the failure margin, if its trend went on."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flows.errors import EmptyWindow

MIN_DAYS = 7
_NORMAL_95 = 1.6448536269514722


@dataclass(frozen=True)
class Forecast:
    """A trend of excess loss: informs, never alarms.

    Units: excess in nats a prediction, slopes in nats a prediction and day, low to high the
    90% interval. `days_to_margin` is None unless the trend rises beyond doubt; 0 when the
    margin is passed already.
    """

    excess_now: float
    slope: float
    slope_low: float
    slope_high: float
    margin: float
    days_to_margin: float | None


def forecast(day: ArrayLike, excess: ArrayLike, *, margin: float) -> Forecast:
    """Theil-Sen line through the day means of the excess loss.

    Shapes: day (n,) day numbers, excess (n,), n >= 7. Raises: EmptyWindow with fewer.
    Source: P. K. Sen, J. Amer. Statist. Assoc. 63 (1968), 1379-1389.
    """
    x, y = np.asarray(day, dtype=np.float64), np.asarray(excess, dtype=np.float64)
    if x.size < MIN_DAYS:
        raise EmptyWindow(f"a trend needs {MIN_DAYS} days, not {x.size}")
    i, j = np.triu_indices(x.size, k=1)
    slopes = np.sort((y[j] - y[i]) / (x[j] - x[i]))
    slope = float(np.median(slopes))
    low, high = _interval(slopes, x.size)
    now = float(np.median(y - slope * x) + slope * x.max())
    return Forecast(now, slope, low, high, margin, _days_to(margin, now, slope, low))


def _interval(slopes: np.ndarray[tuple[int], np.dtype[np.float64]], n: int) -> tuple[float, float]:
    """Sen's 90% interval: order statistics of the slopes, by Kendall's variance."""
    reach = _NORMAL_95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, math.floor((slopes.size - reach) / 2))
    high = min(slopes.size - 1, math.ceil((slopes.size + reach) / 2))
    return float(slopes[low]), float(slopes[high])


def _days_to(margin: float, now: float, slope: float, low: float) -> float | None:
    if now >= margin:
        return 0.0
    return (margin - now) / slope if low > 0 else None
