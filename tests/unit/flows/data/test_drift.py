import polars as pl
import pytest

from flows.data.drift import column_moves
from flows.profile.distances import jensen_shannon
from flows.profile.grid import Grid
from flows.profile.sketch import sketch


def test_columns_that_stay_do_not_move() -> None:
    rows = pl.LazyFrame({"id": [1, 2, 3], "x": [1.0, 2.0, None], "name": ["a", "b", "b"]})
    moves = column_moves(rows, rows, leave_out=["id"])
    assert [(m.column, m.js) for m in moves] == [("name", 0.0), ("x", 0.0)]
    assert moves[1].missing_before == moves[1].missing_after == pytest.approx(1 / 3)


def test_values_with_nothing_in_common_are_at_distance_one() -> None:
    moves = column_moves(pl.LazyFrame({"name": ["a"] * 9}), pl.LazyFrame({"name": ["b"] * 9}))
    assert (moves[0].js, moves[0].new_names) == (pytest.approx(1.0), ("b",))


def test_the_furthest_move_comes_first_with_its_mean_in_earlier_deviations() -> None:
    before = pl.LazyFrame({"still": [0.0, 1.0] * 50, "moved": [0.0, 2.0] * 50})
    after = before.with_columns(pl.col("moved") + 2)
    moved, still = column_moves(before, after)
    assert (moved.column, still.column) == ("moved", "still")
    assert moved.shift_sd == pytest.approx(2.0, abs=0.01)


def test_the_same_numbers_as_monitoring_has_though_rows_are_taken_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.data.drift._CHUNK_ROWS", 7)
    before = pl.DataFrame({"x": [float(i % 13) for i in range(100)]})
    after = pl.DataFrame({"x": [float(i % 5) for i in range(60)]})
    grid = Grid.of(before)
    whole = [sketch(side, grid, "all").columns["x"] for side in (after, before)]
    (move,) = column_moves(before.lazy(), after.lazy())
    assert move.js == jensen_shannon(*whole)


def test_times_keys_other_types_and_empty_sides_are_not_compared() -> None:
    before = pl.DataFrame({"id": [1], "at": ["2013-01-01"], "was": [1], "x": [1.0]}).with_columns(
        pl.col("at").str.to_datetime()
    )
    after = before.with_columns(pl.col("was").cast(pl.String))
    moves = column_moves(before.lazy(), after.lazy(), leave_out=["id"])
    assert [move.column for move in moves] == ["x"]
    assert column_moves(before.lazy(), before.clear().lazy()) == []


def test_a_column_without_a_value_has_no_distance() -> None:
    some = pl.LazyFrame({"x": [1.0, 2.0]})
    none = pl.LazyFrame({"x": [None, float("nan")]}, schema={"x": pl.Float64})
    (move,) = column_moves(some, none)
    assert (move.js, move.shift_sd, move.missing_after) == (None, None, 1.0)
    (back,) = column_moves(none, some)
    assert (back.js, back.missing_before) == (None, 1.0)
