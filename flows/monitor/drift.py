"""Level 3: which features moved. Distances rank and explain; only day means alarm."""

from dataclasses import dataclass

from flows.errors import EmptyWindow
from flows.profile.day_means import DayTest, shift_test
from flows.profile.distances import distances, sd
from flows.profile.grid import Cells
from flows.profile.profile import Days, Profile, day_means
from flows.profile.sketch import ColumnSketch, merge_all


@dataclass(frozen=True)
class ColumnDrift:
    """One feature's move from the reference.

    `psi`, `js`, `ks` and `w1_sd` only rank; `test` alone can alarm (None with too few days).
    `shift_sd` is the move of the mean in reference standard deviations, None for categories.
    """

    column: str
    psi: float
    js: float
    ks: float | None
    w1_sd: float | None
    shift_sd: float | None
    test: DayTest | None


def drift(days: Days, profile: Profile) -> tuple[ColumnDrift, ...]:
    """Every column with values, ranked by PSI, the largest first.

    A column without any value in the window is left out: contracts report it as missing.
    """
    window = merge_all(days.values(), profile.grid)
    means = day_means(days, profile.sketch)
    moves = [
        _column_drift(name, window.columns[name], means[name], profile)
        for name in profile.grid.axes
        if window.columns[name].present and profile.sketch.columns[name].present
    ]
    return tuple(sorted(moves, key=lambda move: (-move.psi, move.column)))


def _column_drift(
    name: str, window: ColumnSketch, means: tuple[float, ...], profile: Profile
) -> ColumnDrift:
    reference = profile.sketch.columns[name]
    moved = distances(window, reference)
    numeric = isinstance(reference.axis, Cells)
    test = _test(means, profile.day_means[name], "column's unit" if numeric else "nats of surprise")
    spread = sd(reference) if numeric else 0.0
    shift = test.estimate / spread if test and spread > 0 else None
    return ColumnDrift(name, moved.psi, moved.js, moved.ks, moved.w1_sd, shift, test)


def _test(means: tuple[float, ...], reference: tuple[float, ...], unit: str) -> DayTest | None:
    try:
        return shift_test(means, reference, unit=unit)
    except EmptyWindow:
        return None
