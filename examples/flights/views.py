"""What is known of a flight when it is due to leave.

A prediction is made at the scheduled departure. Nothing here uses what happens later:
delay rates count flights that had landed before, the weather is the last observation,
the schedule and the aircraft register were published long ago.
"""

from datetime import timedelta
from functools import partial

import polars as pl

from storage.features import FeatureView, Frames

LATE_MIN = 15
NEW_YORK = "America/New_York"

# Rates over the flights that landed in the last so many hours.
RATE_WINDOWS_H = (1, 3, 24)
RATE_LIFETIME = timedelta(days=3)
# A landing counts for a day and comes up to a day and a half after its departure.
RATE_HISTORY = timedelta(days=3)

_WEATHER = (
    "temp_f",
    "dewpoint_f",
    "humidity_pct",
    "wind_mph",
    "precipitation_in",
    "pressure_mb",
    "visibility_mi",
)

# Features that come with the request: the schedule's own columns and the calendar.
REQUEST = ("carrier", "origin", "dest", "distance_mi", "scheduled_minutes", "local_hour", "weekday")


def departures(frames: Frames) -> pl.LazyFrame:
    """Every scheduled departure with its calendar; `at` is when it is due to leave.

    `local_hour` is the hour with its fraction on New York's clocks; `weekday` 1 is Monday.
    """
    local = pl.col("scheduled_departure").dt.convert_time_zone(NEW_YORK)
    flown = pl.col("scheduled_arrival") - pl.col("scheduled_departure")
    return (
        frames["flights"]
        .with_columns(
            at=pl.col("scheduled_departure"),
            scheduled_minutes=flown.dt.total_minutes().cast(pl.Float64),
            local_hour=local.dt.hour() + local.dt.minute() / 60.0,
            weekday=local.dt.weekday().cast(pl.Float64),
        )
        .select("flight_id", "at", "tailnum", *REQUEST)
    )


def lateness(frames: Frames) -> pl.LazyFrame:
    """1 if a flight arrived more than 15 minutes late, 0 if not, null if it never landed."""
    return frames["arrivals"].select(
        "flight_id", "known_at", label=(pl.col("arr_delay_min") > LATE_MIN).cast(pl.Int8)
    )


def _late_rates(frames: Frames, *, of: str) -> pl.LazyFrame:
    """At each landing, the late share of the landings in the windows up to it."""
    landings = (
        frames["arrivals"]
        .drop_nulls("arrived_at")
        .join(frames["flights"].select("flight_id", of), on="flight_id")
        .sort("known_at")
        .with_columns(late=(pl.col("arr_delay_min") > LATE_MIN).cast(pl.Float64))
    )
    rates = [
        pl.col("late").rolling_mean_by("known_at", f"{hours}h").over(of).alias(_rate(of, hours))
        for hours in RATE_WINDOWS_H
    ]
    return landings.select(of, "known_at", *rates)


def _rate(of: str, hours: int) -> str:
    return f"{of}_late_{hours}h"


def _departures_an_hour(frames: Frames) -> pl.LazyFrame:
    """How many departures the schedule holds for the hour that begins at `hour`."""
    hour = pl.col("scheduled_departure").dt.truncate("1h").alias("hour")
    counted = frames["flights"].group_by("origin", hour).len("departures_this_hour")
    return counted.with_columns(pl.col("departures_this_hour").cast(pl.Float64))


def _observations(frames: Frames) -> pl.LazyFrame:
    return frames["weather"]


def _aircraft(frames: Frames) -> pl.LazyFrame:
    return frames["planes"]


def _delay_rates(of: str) -> FeatureView:
    return FeatureView(
        name=f"{of}_delays",
        keys=(of,),
        features={_rate(of, hours): pl.Float64() for hours in RATE_WINDOWS_H},
        build=partial(_late_rates, of=of),
        event_time="known_at",
        lifetime=RATE_LIFETIME,
        history=RATE_HISTORY,
    )


VIEWS = (
    _delay_rates("carrier"),
    _delay_rates("origin"),
    _delay_rates("dest"),
    FeatureView(
        name="load",
        keys=("origin",),
        features={"departures_this_hour": pl.Float64()},
        build=_departures_an_hour,
        event_time="hour",
        lifetime=timedelta(hours=1),
        history=timedelta(hours=1),
        strictly_before=False,  # published ahead: it holds from the hour's first minute on
    ),
    FeatureView(
        name="weather",
        keys=("origin",),
        features={name: pl.Float64() for name in _WEATHER},
        build=_observations,
        event_time="observed_at",
        lifetime=timedelta(hours=6),
    ),
    FeatureView(
        name="plane",
        keys=("tailnum",),
        features={"year_built": pl.Float64(), "seats": pl.Float64()},
        build=_aircraft,
    ),
)
