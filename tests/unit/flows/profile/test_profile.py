"""What a release remembers of its training data and holdout."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from flows.errors import ContractBroken, EmptyWindow
from flows.profile.profile import Holdout, Profile, day_means, sketch_days

START = date(2013, 1, 1)
COLUMNS = ["delay_rate", "carrier", "quiet"]


def served(days, rows=50, seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "day": pl.Series(
                [START + timedelta(days=int(k)) for k in np.repeat(range(days), rows)]
            ),
            "delay_rate": rng.normal(size=days * rows),
            "carrier": rng.choice(["AA", "UA", "WN"], size=days * rows, p=[0.6, 0.3, 0.1]),
            "quiet": rng.normal(size=days * rows),
        }
    )


def test_the_profile_survives_its_json_also_with_a_day_without_values():
    gap = served(8).with_columns(
        quiet=pl.when(pl.col("day") != START).then("quiet"),
        score=pl.lit(0.3),
        label=(pl.col("quiet").fill_null(0) > 0.5).cast(pl.Int64),
    )
    profile = Profile.of(gap, day="day", columns=COLUMNS, holdout=Holdout.of(gap))
    payload = profile.to_json()
    again = Profile.from_json(payload)
    assert again.to_json() == payload
    assert again.holdout == profile.holdout
    assert np.isnan(again.day_means["quiet"][0])


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"grid":{},"grid":{}}', b'{"grid":7}'])
def test_a_broken_profile_is_refused(bad):
    with pytest.raises(ContractBroken):
        Profile.from_json(bad)


def test_a_profile_of_no_rows_is_an_empty_window():
    with pytest.raises(EmptyWindow):
        Profile.of(served(1).clear(), day="day", columns=COLUMNS)


def test_a_day_mean_is_a_mean_for_numbers_and_a_surprise_for_names():
    reference = pl.DataFrame({"day": [START] * 4, "x": [0.0, 1.0, 2.0, 3.0], "c": list("aaab")})
    profile = Profile.of(reference, day="day", columns=["x", "c"])
    later = pl.DataFrame(
        {"day": [START, START, START + timedelta(days=1)], "x": [1.0, 2.0, None], "c": list("abz")}
    )
    means = day_means(sketch_days(later, profile.grid, day="day"), profile.sketch)
    assert means["x"][0] == pytest.approx(1.5, abs=2e-3)
    assert np.isnan(means["x"][1])
    assert means["c"][0] == pytest.approx((-np.log(3 / 4) - np.log(1 / 4)) / 2)
    # A name never seen is as surprising as half a row would have been.
    assert means["c"][1] == pytest.approx(-np.log(0.5 / 4))


def test_the_profile_knows_each_days_missing_share():
    gap = served(2).with_columns(quiet=pl.when(pl.col("day") != START).then("quiet"))
    assert Profile.of(gap, day="day", columns=COLUMNS).day_missing["quiet"] == (1.0, 0.0)


def test_a_holdout_keeps_the_losses_of_its_days_and_needs_labels():
    rows = pl.DataFrame(
        {"day": [START] * 4 + [START + timedelta(days=1)] * 4, "score": [0.5] * 8}
    ).with_columns(label=pl.Series([1, 0, 1, 0, 1, 1, 0, 0]))
    holdout = Holdout.of(rows)
    assert holdout.log_loss == pytest.approx((np.log(2), np.log(2)))
    assert holdout.expected_log_loss == pytest.approx((np.log(2), np.log(2)))
    with pytest.raises(EmptyWindow):
        Holdout.of(rows.with_columns(label=pl.lit(None, pl.Int64)))
