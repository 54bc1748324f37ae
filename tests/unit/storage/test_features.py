from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import Refused
from storage.features import FeatureView, OnlineStore, get_historical_features

START = datetime(2013, 3, 31, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def minute(n: int) -> datetime:
    return START + timedelta(minutes=n)


def view(**changes: object) -> FeatureView:
    given = {
        "name": "load",
        "keys": ("airport",),
        "features": {"load": pl.Float64()},
        "build": lambda frames: frames["load"],
        "event_time": "known",
        "lifetime": timedelta(minutes=10),
    }
    return FeatureView(**{**given, **changes})


def readings(*rows: tuple[str | None, int, float]) -> dict[str, pl.LazyFrame]:
    columns = {"airport": [r[0] for r in rows], "known": [minute(r[1]) for r in rows]}
    schema = {"airport": pl.String, "known": TIME, "load": pl.Float64}
    return {"load": pl.LazyFrame({**columns, "load": [r[2] for r in rows]}, schema=schema)}


def asked(*rows: tuple[str | None, int]) -> pl.LazyFrame:
    columns = {"airport": [r[0] for r in rows], "at": [minute(r[1]) for r in rows]}
    return pl.LazyFrame(columns, schema={"airport": pl.String, "at": TIME})


def served(entities: pl.LazyFrame, frames: dict[str, pl.LazyFrame], **changes: object) -> list:
    rows = get_historical_features(entities, [view(**changes)], frames).collect()
    return rows["load"].to_list()


airports = st.sampled_from(["EWR", "JFK", None])
minutes = st.integers(0, 40)
loads = st.lists(
    st.tuples(airports, minutes, st.integers(0, 99).map(float)),
    max_size=25,
    unique_by=lambda row: row[:2],
)


@settings(deadline=None, max_examples=150)
@given(loads, st.lists(st.tuples(airports, minutes), min_size=1, max_size=12), st.booleans())
def test_history_and_online_store_both_agree_with_a_search_row_by_row(rows, questions, strictly):
    frames, asking = readings(*rows), view(strictly_before=strictly)
    joined = get_historical_features(asked(*questions), [asking], frames).collect()
    for row in joined.to_dicts():
        known = [
            (known, value)
            for airport, n, value in rows
            if airport is not None
            and airport == row["airport"]
            and (known := minute(n)) >= row["at"] - timedelta(minutes=10)
            and (known < row["at"] if strictly else known <= row["at"])
        ]
        expected = max(known)[1] if known else None
        assert row["load"] == expected
        online = OnlineStore.snapshot([asking], frames, at=row["at"])
        assert online.lookup(row, at=row["at"]) == {"load": expected}


def test_a_value_stamped_at_the_moment_of_prediction_is_not_known_yet():
    frames = readings(("EWR", 5, 1.0), ("EWR", 10, 2.0))
    assert served(asked(("EWR", 10)), frames) == [1.0]
    assert served(asked(("EWR", 10)), frames, strictly_before=False) == [2.0]


def test_a_value_is_null_one_moment_after_its_lifetime():
    frames = readings(("EWR", 0, 1.0))
    assert served(asked(("EWR", 10), ("EWR", 11)), frames) == [1.0, None]


def test_every_row_comes_back_sorted_by_time_and_none_is_added():
    frames = readings(("EWR", 1, 1.0), ("EWR", 1, 7.0), ("JFK", 2, 2.0))
    entities = asked(("JFK", 9), ("EWR", 3), ("EWR", 3), (None, 1))
    rows = get_historical_features(entities, [view()], frames).collect()
    assert rows["at"].to_list() == [minute(1), minute(3), minute(3), minute(9)]
    assert rows["load"].to_list() == [None, 7.0, 7.0, 2.0]


def test_what_never_changes_is_joined_by_key_alone():
    frames = {"load": pl.LazyFrame({"airport": ["EWR"], "load": [4.0]})}
    timeless = view(event_time=None, lifetime=None)
    rows = get_historical_features(asked(("JFK", 1), ("EWR", 2)), [timeless], frames).collect()
    assert rows["load"].to_list() == [None, 4.0]
    store = OnlineStore.snapshot([timeless], frames, at=minute(0))
    assert store.lookup({"airport": "EWR"}, at=minute(9999)) == {"load": 4.0}


def test_an_old_snapshot_lets_its_values_die():
    store = OnlineStore.snapshot([view()], readings(("EWR", 4, 1.0)), at=minute(5))
    assert store.lookup({"airport": "EWR"}, at=minute(14)) == {"load": 1.0}
    assert store.lookup({"airport": "EWR"}, at=minute(15)) == {"load": None}


def test_a_snapshot_refuses_to_answer_for_a_time_before_it():
    store = OnlineStore.snapshot([view()], readings(("EWR", 4, 1.0)), at=minute(5))
    with pytest.raises(Refused, match="cannot answer for"):
        store.lookup({"airport": "EWR"}, at=minute(4))


def test_a_lookup_without_the_key_is_refused_and_names_it():
    store = OnlineStore.snapshot([view()], readings(), at=minute(5))
    with pytest.raises(Refused, match="load needs the key 'airport'"):
        store.lookup({"flight": "UA1"}, at=minute(5))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"features": {"speed": pl.Float64()}}, "did not build speed"),
        ({"features": {"load": pl.Int64()}}, "built load as Float64, not Int64"),
        ({"features": {"at": pl.Float64()}}, "would overwrite at"),
        ({"keys": ("runway",)}, "needs runway in the entities"),
    ],
)
def test_a_view_that_does_not_fit_is_refused_and_named(changes, problem):
    with pytest.raises(Refused, match=f"feature view load .*{problem}"):
        served(asked(("EWR", 1)), readings(("EWR", 0, 1.0)), **changes)


def test_event_times_without_a_zone_are_refused():
    naive = readings(("EWR", 0, 1.0))["load"].with_columns(
        pl.col("known").dt.replace_time_zone(None)
    )
    with pytest.raises(Refused, match="event times of type"):
        served(asked(("EWR", 1)), {"load": naive})


def test_a_lifetime_without_an_event_time_is_refused():
    with pytest.raises(Refused, match="lifetime but no event time"):
        view(event_time=None)
