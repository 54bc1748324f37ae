"""Which model answers, what was counted across swaps, and when an index stops being fresh."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flows.service.models.model import ServedModel
from flows.service.models.state import LoadedIndex, ServingState

MakeModel = Callable[..., ServedModel]
DIGEST = "0" * 64
NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
ROW = {"carrier": "ZZ", "distance_mi": 1.0}


def test_a_canary_takes_its_share_and_keeps_to_its_callers(make_model: MakeModel) -> None:
    ids = [f"request-{i}" for i in range(2000)]
    taken = {}
    for percent in (1, 20, 99):
        loaded = LoadedIndex(1, DIGEST, make_model(1), make_model(2), percent)
        taken[percent] = {one for one in ids if loaded.choose(one) is loaded.canary}
        assert abs(len(taken[percent]) - 20 * percent) < 60
    assert taken[1] < taken[20] < taken[99]


@given(st.text(max_size=128))
def test_without_a_canary_the_champion_answers_everybody(request_id: str) -> None:
    champion = object()
    assert LoadedIndex(1, DIGEST, champion).choose(request_id) is champion  # type: ignore[arg-type]


def test_a_path_finds_champion_and_canary_and_never_the_shadow(make_model: MakeModel) -> None:
    loaded = LoadedIndex(1, DIGEST, make_model(1), make_model(2), 5, make_model(3))
    assert loaded.find("trips", "1") is loaded.champion
    assert loaded.find("trips", "2") is loaded.canary
    assert loaded.find("trips", "3") is None
    assert loaded.find("other", "1") is None
    assert [model.version for model in loaded.models] == [1, 2, 3]


def test_unknown_categories_are_counted_across_swaps(make_model: MakeModel) -> None:
    state = ServingState()
    assert state.count_unknown_categories() == {}
    for index in (1, 2):
        model = make_model(index)
        state.swap(LoadedIndex(index, f"{index:064x}", model))
        model.score([ROW, ROW], inline=True)
    assert state.count_unknown_categories() == {"carrier": 4}
    assert state.swaps == 2


def test_an_index_is_fresh_until_its_moment_and_then_says_so() -> None:
    state = ServingState(fresh_until=NOW)
    assert state.explain_staleness(NOW - timedelta(seconds=1)) == ""
    assert state.explain_staleness(NOW) == "the index's freshness ended at 2013-07-01T12:00:00Z"
    state.stale = "the timestamp expired"
    assert state.explain_staleness(NOW) == "the timestamp expired"


def test_the_lakes_age_is_infinite_before_its_first_answer() -> None:
    assert ServingState().age_s(NOW) == float("inf")
    assert ServingState(checked=NOW - timedelta(seconds=5)).age_s(NOW) == 5.0
