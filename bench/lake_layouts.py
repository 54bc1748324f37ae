"""Range and group sizes compared for bench/lake.py, in this process (decision 0012)."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from lake_server import REPOSITORY, SAID, made, prepare

from storage.embedded.graph import heads, ranges
from storage.embedded.graph.branches import create_branch
from storage.embedded.graph.objects import find_object, put_object
from storage.embedded.lake import EmbeddedLake

LAYOUTS = [(64, 64), (128, 64), (256, 16), (256, 64), (256, 1 << 20), (1024, 64)]
FLAT = 1 << 20
MAIN = (REPOSITORY, "main")


def layouts(folder: Path, size: int, rounds: int) -> None:
    print(f"{size:,} keys in this process, ms; kB that a commit of 2 keys writes")
    print(f"{'range x group':>16}{'commit of 2':>12}{'merge of 1':>12}{'cold get':>10}{'kB':>8}")
    for keys, group in LAYOUTS:
        ranges.RANGE_KEYS, ranges.GROUP_RANGES = keys, group
        root = folder / f"layout-{keys}-{group}"
        prepare(root, size)
        lake = EmbeddedLake(root)
        row = _layout_row(lake, size, rounds)
        label = f"{keys} x {'all' if group == FLAT else group}"
        print(
            f"{label:>16}"
            + "".join(f"{value:{w}.2f}" for value, w in zip(row, (12, 12, 10, 8), strict=True))
        )


def _layout_row(lake: EmbeddedLake, size: int, rounds: int) -> tuple[float, ...]:
    found: dict[str, list[float]] = {"commit": [], "merge": [], "get": []}
    before = stored(lake)
    for number in range(rounds):
        for key in (number * 7919 % size, number * 104729 % size):
            value = made((number + 1) * size + key)
            lake.write(lambda view, k=key, v=value: put_object(view, *MAIN, f"data/{k:07}", v))
        found["commit"].append(timed(lambda: heads.commit(lake, REPOSITORY, "main", SAID)))
    written = (stored(lake) - before) / rounds / 1e3
    for number in range(rounds):
        side(lake, number, size)
        found["merge"].append(
            timed(lambda n=number: heads.merge(lake, REPOSITORY, f"s{n}", "main", SAID))
        )
    lake.close()
    for number in range(rounds):
        again = EmbeddedLake(lake.root)
        key = f"data/{number * 7907 % size:07}"
        found["get"].append(timed(lambda a=again, k=key: a.read(lambda view: find(view, k))))
        again.close()
    medians = [statistics.median(found[name]) * 1e3 for name in ("commit", "merge", "get")]
    return (*medians, written)


def find(view: object, key: str) -> object:
    return find_object(view, REPOSITORY, "main", key)  # type: ignore[arg-type]


def side(lake: EmbeddedLake, number: int, size: int) -> None:
    name, key, value = f"s{number}", f"data/{number * 6151 % size:07}", made(number + (1 << 40))
    lake.write(
        lambda view: create_branch(view, REPOSITORY, name, "main", hidden=False, force=False)
    )
    lake.write(lambda view: put_object(view, REPOSITORY, name, key, value))
    heads.commit(lake, REPOSITORY, name, SAID)


def stored(lake: EmbeddedLake) -> int:
    query = "SELECT sum(length(body)) FROM node"
    return int(lake.read(lambda view: view.rows.execute(query).get) or 0)


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
