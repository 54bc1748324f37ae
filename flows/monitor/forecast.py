"""When the champion's excess loss would reach the failure margin, if its trend went on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flows.errors import EmptyWindow

MIN_DAYS = 7


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
    # Late, as it takes a second; whoever fitted a challenger has it loaded.
    from scipy.stats import theilslopes

    line = theilslopes(y, x, alpha=0.9, method="joint")
    slope, low, high = (float(z) for z in (line.slope, line.low_slope, line.high_slope))
    now = float(line.intercept) + slope * float(x.max())
    return Forecast(now, slope, low, high, margin, _days_to(margin, now, slope, low))


def _days_to(margin: float, now: float, slope: float, low: float) -> float | None:
    if now >= margin:
        return 0.0
    return (margin - now) / slope if low > 0 else None
