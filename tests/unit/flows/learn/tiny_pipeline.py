"""A pipeline of one dataset and two features, for tests that need no flights."""

from datetime import UTC, datetime, timedelta

import dataframely as dy
import polars as pl
from sklearn.linear_model import LogisticRegression

from flows.pipeline import Dataset, Pipeline

START = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Visits(dy.Schema):
    """One row a visit; `bought` is known a day later."""

    visit = dy.String(primary_key=True)
    at = dy.Datetime(time_unit="us", time_zone="UTC")
    pages = dy.Float64(nullable=True)
    channel = dy.String(nullable=True)
    bought = dy.Int64(nullable=True)


def visits(days=20, *, a_day=40):
    """Every other hour of interest: those who see many pages buy."""
    rows = []
    for k in range(days * a_day):
        day, place = divmod(k, a_day)
        rows.append(
            {
                "visit": f"v{k}",
                "at": START + day * DAY + place * timedelta(minutes=30),
                "pages": float(place % 8),
                "channel": ("web", "app")[place % 2],
                "bought": int(place % 8 + (place + day) % 3 > 5),
            }
        )
    return pl.DataFrame(rows, schema={n: c.dtype for n, c in Visits.columns().items()})


def read_entities(frames):
    return frames["visits"].select("visit", "at", "pages", "channel")


def read_labels(frames):
    known_at = pl.col("at") + pl.duration(days=1)
    return frames["visits"].select("visit", label=pl.col("bought"), known_at=known_at)


def make_estimator(hyperparameters):
    options = {k: v for k, v in hyperparameters.items() if k != "random_state"}
    return LogisticRegression(**options)


PIPELINE = Pipeline(
    name="visits",
    datasets=(Dataset(name="visits", contract=Visits, event_time="at"),),
    key="visit",
    entities=read_entities,
    labels=read_labels,
    views=(),
    features=("pages", "channel"),
    categorical=("channel",),
    estimator=make_estimator,
    hyperparameters={"C": 1.0},
    gates=(),
    holdout=timedelta(days=5),
    positive="bought",
    base_rate=0.4,
)
