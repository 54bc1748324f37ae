"""Contracts of the four feeds: columns, units, keys, and what no good row can break.

All times are UTC. Delays are minutes, early is negative; distances are miles.
"""

import dataframely as dy
import polars as pl

_AIRPORT = r"^[A-Z]{3}$"


class Flights(dy.Schema):
    """The published schedule: one row a departure from New York."""

    flight_id = dy.String(primary_key=True, regex=r"^\d{8}-[A-Z]{3}-[A-Z0-9]{2}-\d+$")
    carrier = dy.String(regex=r"^[A-Z0-9]{2}$")
    flight_number = dy.Int64(min=1)
    tailnum = dy.String(nullable=True, max_length=8)
    origin = dy.String(regex=_AIRPORT)
    dest = dy.String(regex=_AIRPORT)
    scheduled_departure = dy.Datetime(time_unit="us", time_zone="UTC")
    scheduled_arrival = dy.Datetime(time_unit="us", time_zone="UTC")
    distance_mi = dy.Float64(min=1.0, max=6000.0)

    @dy.rule()
    def arrives_after_departing(cls) -> pl.Expr:  # noqa: N805
        """Scheduled flights last from 20 minutes to 20 hours."""
        minutes = (pl.col("scheduled_arrival") - pl.col("scheduled_departure")).dt.total_minutes()
        return minutes.is_between(20, 1200)


class Arrivals(dy.Schema):
    """What became of a flight; `known_at` is when that could be known."""

    flight_id = dy.String(primary_key=True, max_length=32)
    arrived_at = dy.Datetime(time_unit="us", time_zone="UTC", nullable=True)
    arr_delay_min = dy.Float64(nullable=True, min=-180.0, max=3000.0)
    dep_delay_min = dy.Float64(nullable=True, min=-180.0, max=3000.0)
    cancelled = dy.Bool()
    known_at = dy.Datetime(time_unit="us", time_zone="UTC")

    @dy.rule()
    def landed_flights_have_a_delay(cls) -> pl.Expr:  # noqa: N805
        """Time and delay of arrival come together."""
        return pl.col("arrived_at").is_null() == pl.col("arr_delay_min").is_null()

    @dy.rule()
    def cancelled_flights_never_arrive(cls) -> pl.Expr:  # noqa: N805
        """No flight is both cancelled and landed."""
        return ~(pl.col("cancelled") & pl.col("arrived_at").is_not_null())

    @dy.rule()
    def known_once_landed(cls) -> pl.Expr:  # noqa: N805
        """Nothing is known of a landing before it happens."""
        return (pl.col("known_at") >= pl.col("arrived_at")).fill_null(True)


class Weather(dy.Schema):
    """Hourly observations at the three airports of New York."""

    origin = dy.String(primary_key=True, regex=_AIRPORT)
    observed_at = dy.Datetime(time_unit="us", time_zone="UTC", primary_key=True)
    temp_f = dy.Float64(nullable=True, min=-30.0, max=125.0)
    dewpoint_f = dy.Float64(nullable=True, min=-60.0, max=100.0)
    humidity_pct = dy.Float64(nullable=True, min=0.0, max=100.0)
    wind_mph = dy.Float64(nullable=True, min=0.0, max=150.0)
    precipitation_in = dy.Float64(min=0.0, max=12.0)
    pressure_mb = dy.Float64(nullable=True, min=900.0, max=1100.0)
    visibility_mi = dy.Float64(min=0.0, max=20.0)


class Planes(dy.Schema):
    """The aircraft register; it does not change within the year."""

    tailnum = dy.String(primary_key=True, max_length=8)
    year_built = dy.Float64(nullable=True, min=1903.0, max=2013.0)
    seats = dy.Float64(min=1.0, max=900.0)
    engines = dy.Float64(min=1.0, max=8.0)
