"""What a sketch costs beside np.sum and scipy's KS: `python bench/sketch.py`.

Times are the best of several runs on one thread; trust the ratios, not the milliseconds.
"""

import time
from collections.abc import Callable

import numpy as np
import polars as pl
from scipy import stats

from flows.profile.distances import distances, kolmogorov_smirnov
from flows.profile.grid import Grid
from flows.profile.sketch import Sketch, sketch

COLUMNS, REFERENCE_ROWS, WINDOW_ROWS = 20, 81_000, 28_000


def normal(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({f"c{i}": rng.normal(size=rows) for i in range(COLUMNS)})


def best_ms(work: Callable[[], object], runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    reference, window = normal(REFERENCE_ROWS, 1), normal(WINDOW_ROWS, 2)
    grid = Grid.of(reference)
    stored = sketch(reference, grid, "reference")
    counted = sketch(window, grid, "window")
    payload = counted.to_json()
    theirs = {name: reference[name].to_numpy() for name in reference.columns}
    ours = {name: window[name].to_numpy() for name in window.columns}

    def compare() -> None:
        for name, column in counted.columns.items():
            distances(column, stored.columns[name])

    def scipy_ks() -> list[float]:
        return [stats.ks_2samp(ours[n], theirs[n], method="asymp").statistic for n in ours]

    exact = scipy_ks()
    error = max(
        abs(kolmogorov_smirnov(c, stored.columns[n]) - ks)
        for (n, c), ks in zip(counted.columns.items(), exact, strict=True)
    )
    base = best_ms(lambda: sketch(window, grid, "window"))
    rows = [
        ("sketch of the window", base),
        ("all distances of 20 columns", best_ms(compare)),
        ("to_json", best_ms(counted.to_json)),
        ("from_json", best_ms(lambda: Sketch.from_json(payload, grid))),
        ("np.sum of each column", best_ms(lambda: [c.sum() for c in ours.values()])),
        ("np.sort of each column", best_ms(lambda: [np.sort(c) for c in ours.values()], 5)),
        ("scipy ks_2samp, both samples", best_ms(scipy_ks, 3)),
    ]
    print(f"{WINDOW_ROWS:,} rows x {COLUMNS} columns against {REFERENCE_ROWS:,}")
    for name, ms in rows:
        print(f"{name:32}{ms:9.2f} ms{ms / base:9.2f} x the sketch")
    print(f"stored sketch {len(payload) / 1000:.0f} kB; largest KS error {error:.5f}")


if __name__ == "__main__":
    main()
