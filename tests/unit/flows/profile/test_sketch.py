"""The sketch: merging is exact, and what it says agrees with scipy on the rows themselves."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.errors import ContractBroken, EmptyWindow, Misconfigured
from flows.profile import distances as d
from flows.profile.grid import CELLS, Cells, Grid, Names
from flows.profile.sketch import Sketch, merge_all, sketch

numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=64))
words = st.one_of(st.none(), st.text(max_size=4))


@st.composite
def frames(draw: st.DrawFn, max_rows: int = 30) -> pl.DataFrame:
    rows = draw(st.integers(0, max_rows))

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return pl.DataFrame(
        {
            "x": pl.Series(column(numbers), dtype=pl.Float64, strict=False),
            "n": pl.Series(
                column(st.one_of(st.none(), st.integers(-(2**40), 2**40))), dtype=pl.Int64
            ),
            "word": pl.Series(column(words), dtype=pl.String),
            "flag": pl.Series(column(st.one_of(st.none(), st.booleans())), dtype=pl.Boolean),
        }
    )


@settings(max_examples=60, deadline=None)
@given(frames(), frames(), frames(), frames())
def test_merging_is_associative_commutative_and_has_an_identity(reference, a, b, c):
    grid = Grid.of(reference)
    x, y, z = (sketch(part, grid, name) for part, name in ((a, "a"), (b, "b"), (c, "c")))
    assert x.merge(y).to_json() == y.merge(x).to_json()
    assert x.merge(y).merge(z).to_json() == x.merge(y.merge(z)).to_json()
    assert x.merge(Sketch.empty(grid)).to_json() == x.to_json()


@settings(max_examples=60, deadline=None)
@given(frames(), st.lists(frames(), min_size=1, max_size=4))
def test_merged_parts_equal_the_sketch_of_all_rows(reference, parts):
    grid = Grid.of(reference)
    merged = merge_all((sketch(part, grid, "day") for part in parts), grid)
    assert merged.to_json() == sketch(pl.concat(parts), grid, "day").to_json()


@settings(max_examples=60, deadline=None)
@given(frames(), frames())
def test_a_sketch_and_its_grid_survive_their_json(reference, frame):
    grid = Grid.of(reference)
    again = Grid.from_plain(grid.to_plain())
    assert again.digest == grid.digest
    payload = sketch(frame, grid, "day").to_json()
    assert Sketch.from_json(payload, again).to_json() == payload


@settings(max_examples=60, deadline=None)
@given(frames(), frames())
def test_every_row_is_counted_once_in_every_column(reference, frame):
    counted = sketch(frame, Grid.of(reference), "day")
    for name, column in counted.columns.items():
        nans = frame["x"].is_nan().sum() if name == "x" else 0
        assert (column.rows, column.nulls) == (frame.height, frame[name].null_count())
        assert column.nans == (nans or 0)
        assert (column.counts >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.floats(0.3, 3))
def test_ks_is_within_its_own_bound_of_the_exact_statistic(seed, shift, scale):
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=3000), rng.normal(shift, scale, size=700)
    ours, theirs = _pair(reference, window)
    exact = stats.ks_2samp(reference, window, method="asymp").statistic
    gap = exact - d.kolmogorov_smirnov(ours, theirs)
    assert -1e-12 <= gap <= d.ks_error_bound(ours, theirs) + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1, 1))
def test_wasserstein_mean_and_sd_are_within_a_cell_of_the_exact_ones(seed, shift):
    rng = np.random.default_rng(seed)
    reference, window = rng.uniform(0, 10, size=2000), rng.uniform(shift, 10 + shift, size=500)
    ours, theirs = _pair(reference, window)
    assert isinstance(ours.axis, Cells)
    cell = (ours.axis.hi - ours.axis.lo) / CELLS
    assert abs(d.wasserstein(ours, theirs) - stats.wasserstein_distance(window, reference)) <= cell
    assert abs(d.mean(ours) - window.mean()) <= cell / 2
    assert abs(d.sd(ours) - window.std()) <= cell


def test_jensen_shannon_agrees_with_scipy_over_names():
    reference = pl.DataFrame({"c": list("aaaabbbccd")})
    window = pl.DataFrame({"c": list("aabbbbccce")})
    grid = Grid.of(reference)
    ours, theirs = (sketch(f, grid, "day").columns["c"] for f in (window, reference))
    from scipy.spatial.distance import jensenshannon

    exact = jensenshannon([2, 4, 3, 0, 1], [4, 3, 2, 1, 0], base=2)
    assert d.jensen_shannon(ours, theirs) == pytest.approx(exact)


def test_psi_is_the_textbook_sum_over_names():
    grid = Grid.of(pl.DataFrame({"c": ["a"] * 6 + ["b"] * 4}))
    ours = sketch(pl.DataFrame({"c": ["a"] * 3 + ["b"] * 7}), grid, "day").columns["c"]
    theirs = sketch(pl.DataFrame({"c": ["a"] * 6 + ["b"] * 4}), grid, "day").columns["c"]
    textbook = (0.3 - 0.6) * np.log(0.3 / 0.6) + (0.7 - 0.4) * np.log(0.7 / 0.4)
    assert d.psi(ours, theirs) == pytest.approx(textbook)


def test_equal_windows_have_no_distance():
    values = np.random.default_rng(1).gamma(2, size=1000)
    ours, theirs = _pair(values, values)
    assert d.distances(ours, theirs) == d.Distances(0.0, 0.0, 0.0, 0.0)


def test_psi_of_a_gaussian_shift_is_near_its_limit():
    # Two unit normals a distance s apart have symmetric Kullback-Leibler divergence s^2.
    rng = np.random.default_rng(2)
    ours, theirs = _pair(rng.normal(size=200_000), rng.normal(0.3, size=200_000))
    assert d.psi(ours, theirs) == pytest.approx(0.09, abs=0.01)


def test_values_beyond_thrice_the_range_are_counted_outside():
    grid = Grid.of(pl.DataFrame({"x": [0.0, 1.0]}))
    frame = pl.DataFrame({"x": [-1.01, 2.01, 0.5, float("inf"), float("-inf")]})
    column = sketch(frame, grid, "day").columns["x"]
    assert (int(column.counts[0]), int(column.counts[-1]), column.outside) == (2, 2, 4)


def test_names_the_reference_lacks_are_counted_and_the_first_are_named():
    grid = Grid.of(pl.DataFrame({"c": ["a", "b"]}))
    frame = pl.DataFrame({"c": [f"new{i:03}" for i in range(100)] + ["a"]})
    column = sketch(frame, grid, "day").columns["c"]
    assert column.outside == 100
    assert list(column.new_names) == [f"new{i:03}" for i in range(64)]


def test_more_names_than_cells_keep_the_most_frequent():
    names = [f"n{i}" for i in range(CELLS + 10)] + ["often"] * 5
    axis = Grid.of(pl.DataFrame({"c": names})).axes["c"]
    assert isinstance(axis, Names)
    assert len(axis.names) == CELLS
    assert "often" in axis.names


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [None], [float("nan")], [float("inf")]])
def test_a_reference_without_range_still_gets_a_grid(values):
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    axis = Grid.of(frame).axes["x"]
    assert isinstance(axis, Cells)
    assert axis.lo < axis.hi
    assert np.isfinite(axis.hi - axis.lo)


def test_a_missing_or_retyped_column_breaks_the_schema():
    grid = Grid.of(pl.DataFrame({"x": [1.0, 2.0]}))
    for frame in (pl.DataFrame({"y": [1.0]}), pl.DataFrame({"x": ["1"]})):
        with pytest.raises(ContractBroken) as caught:
            sketch(frame, grid, "day")
        assert (caught.value.rule, caught.value.column) == ("schema", "x")


def test_a_column_of_times_is_refused_by_name():
    with pytest.raises(Misconfigured, match="column at is Datetime"):
        Grid.of(pl.DataFrame({"at": pl.Series([0], dtype=pl.Datetime)}))


def test_sketches_of_different_grids_never_merge():
    one, other = (Grid.of(pl.DataFrame({"x": [0.0, top]})) for top in (1.0, 2.0))
    with pytest.raises(Misconfigured, match="different grids"):
        Sketch.empty(one).merge(Sketch.empty(other))


def test_a_sketch_of_another_grid_or_a_broken_one_is_refused():
    one, other = (Grid.of(pl.DataFrame({"x": [0.0, top]})) for top in (1.0, 2.0))
    payload = Sketch.empty(one).to_json()
    for bad, grid in (
        (payload, other),
        (b"{", one),
        (b"[]", one),
        (payload.replace(b'"nulls":0', b'"nulls":-1'), one),
        (payload.replace(b'"counts":[]', b'"counts":[5000,1]'), one),
        (payload.replace(b'"counts":[]', b'"counts":[1]'), one),
    ):
        with pytest.raises(ContractBroken):
            Sketch.from_json(bad, grid)


def test_an_empty_column_has_no_distance_to_anything():
    grid = Grid.of(pl.DataFrame({"x": [0.0, 1.0]}))
    empty = Sketch.empty(grid).columns["x"]
    with pytest.raises(EmptyWindow):
        d.distances(empty, empty)


def _pair(reference, window):
    grid = Grid.of(pl.DataFrame({"x": reference}))
    ours, theirs = (sketch(pl.DataFrame({"x": v}), grid, "day") for v in (window, reference))
    return ours.columns["x"], theirs.columns["x"]
