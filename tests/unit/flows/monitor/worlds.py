"""Small worlds with exact rates, from which the real gatherer makes every state that tests need.

A world has calm rows, which the champion scores 0.1, and busy ones, which it scores 0.5; on busy
rows the feature `load` is 1. Labels come in exact numbers, so a day's loss is known on paper; from
day to day a few labels and values alternate, so that day means spread a little.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

from flows.monitor.evidence import MonitorEvidence, ReleaseWindow, ServedWindow, gather
from flows.monitor.rules import MonitorRules
from flows.profile.profile import Holdout, Profile, sketch_days

DAY = timedelta(days=1)
END = datetime(2013, 6, 1, tzinfo=UTC)
RULES = MonitorRules()
CALM, BUSY = 0.1, 0.5
ROWS = 400


def even_challenger(rate, day):
    """One that knows the true rate."""
    return rate


def world(
    days=28,
    *,
    end=END,
    busy=0.5,
    bias=0.0,
    challenger=None,
    labels=1.0,
    shift=0.0,
    quiet_features=0,
):
    """Rows as served: `bias` is the true rate less the champion's score; `challenger` maps a rate
    and the number of a day to its score; `labels` is the share of days, the first, with labels."""
    parts = []
    for k in range(days):
        # A few labels more on one day and less on the next, independent of the champion's error.
        wobble = (0, 4, 0, -4)[k % 4]
        for score, share in ((CALM, 1 - busy), (BUSY, busy)):
            rows = round(ROWS * share)
            if not rows:
                continue
            rate = score + bias
            positives = round(rows * rate) + wobble
            values = np.linspace(-1, 1, rows) + shift + 0.1 * (k % 3 - 1)
            known = k < labels * days
            part = {
                "day": (end - (days - k) * DAY).date(),
                "load": float(score == BUSY),
                "wind": values,
                "score": score,
                "label": np.repeat([1, 0], [positives, rows - positives]) if known else None,
                **{f"quiet_{i}": np.linspace(-1, 1, rows) + 0.1 * ((k + i) % 3 - 1)
                   for i in range(quiet_features)},
            }  # fmt: skip
            if challenger is not None:
                part["challenger_score"] = challenger(rate, k)
            parts.append(pl.DataFrame(part, schema_overrides={"label": pl.Int64}))
    return pl.concat(parts) if parts else world(1).clear()


@cache
def profile(*, busy=0.5, bias=0.0, quiet_features=0, leave_out=()):
    rows = world(60, quiet_features=quiet_features)
    names = [n for n in rows.columns if n not in ("day", "score", "label", *leave_out)]
    return Profile.of(
        rows, day="day", columns=names, holdout=Holdout.of(world(14, busy=busy, bias=bias))
    )


def evidence(
    rows: pl.DataFrame, reference=None, *, end=END, days=28, rules=RULES
) -> MonitorEvidence:
    """What the monitor's own gatherer makes of the rows."""
    reference = reference or profile()
    window = ReleaseWindow("flights", "flights/1", end - days * DAY, end)
    columns = [c for c in ("day", "score", "label", "challenger_score") if c in rows.columns]
    served = ServedWindow(
        window, sketch_days(rows, reference.grid, day="day"), rows.select(columns)
    )
    return gather(served, reference, rules)
