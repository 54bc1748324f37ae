"""What goes wrong with the feeds of one month, the way it does in real ones.

Each fault takes a month's deliveries and gives them back damaged. Neither of the two that
make up `broken` breaks a contract: only watching what is served can see them.
"""

from datetime import timedelta

import polars as pl

from examples.flights.feed import Feeds, delivery, month_bounds

# The arrivals feed of a broken month falls silent after this long.
SILENT_AFTER = timedelta(days=3)


def silent_arrivals(feeds: Feeds, month: int) -> Feeds:
    """Arrivals stop after three days: delay rates go stale, then null past their lifetime."""
    start, _ = month_bounds(month)
    heard = feeds["arrivals"].filter(pl.col("known_at") < start + SILENT_AFTER)
    return {**feeds, "arrivals": heard}


def metric_weather(feeds: Feeds, month: int) -> Feeds:  # noqa: ARG001  (all faults alike)
    """The station changes to °C; the columns go on saying °F, and no value is impossible."""
    celsius = ((pl.col("temp_f", "dewpoint_f") - 32.0) / 1.8).round(2)
    return {**feeds, "weather": feeds["weather"].with_columns(celsius)}


def broken(month: int) -> Feeds:
    """A month's delivery with the arrivals silent and the weather in the wrong unit."""
    return metric_weather(silent_arrivals(delivery(month), month), month)


def withheld_arrivals(month: int) -> pl.DataFrame:
    """What the silent feed owes for a month, to be delivered late."""
    start, _ = month_bounds(month)
    return delivery(month)["arrivals"].filter(pl.col("known_at") >= start + SILENT_AFTER)
