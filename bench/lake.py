"""The embedded lake: what version control costs as the repository grows, and bytes beside a disk.

    python bench/lake.py [--sizes 100 10000 100000 1000000] [--rounds 9] [--dvc PATH]
                         [--only graph bytes versioning] [--layouts]

Graph: the same calls over HTTP on repositories of several sizes; the ratio to the smallest says
whether a call costs what changed or what exists. The keys are put there below the HTTP surface,
and everything that is measured goes through it. Bytes: PUT beside hashing (SHA-256 and MD5, which
both are owed), GET beside a file copy. Versioning: 1 GiB beside DVC, if --dvc names the program
(python -m venv DIR && DIR/bin/pip install dvc). With LAKEFS_ENDPOINT and its key, graph (smallest
size) and bytes run on the real lakeFS too. `--layouts` compares range and group sizes. Medians.
Targets come last, each beside what was reached in this run.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lake_bytes import throughput
from lake_dvc import versioning
from lake_layouts import layouts
from lake_server import Server, prepare, real, serving

PARTS = ("graph", "bytes", "versioning")
SIZES = [100, 10_000, 100_000, 1_000_000]
# Commits of so many changed keys, and in how many rounds at most: each is uploaded before.
CHANGES = {1: 9, 2: 9, 100: 3, 10_000: 1}
UPLOADERS = 8
Column = dict[str, float]
Result = tuple[str, str, str, bool]
"""A figure's name, its target, what was reached, and whether that is enough."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dvc", help="path of a dvc program")
    parser.add_argument("--layouts", action="store_true")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        if given.layouts:
            layouts(Path(folder), max(given.sizes), given.rounds)
            return
        results: list[Result] = []
        if "graph" in given.only:
            results += graph(Path(folder), sorted(given.sizes), given.rounds)
        if "bytes" in given.only:
            results += octets(Path(folder))
        if "versioning" in given.only:
            results += beside_dvc(Path(folder), given.dvc)
    report(results)


def report(results: list[Result]) -> None:
    print(f"\nload {os.getloadavg()[0]:.1f}\n{'':44}{'target':>12}{'reached':>12}")
    for name, target, reached, enough in results:
        print(f"{name:44}{target:>12}{reached:>12}{'' if enough else '   missed'}")


def graph(folder: Path, sizes: list[int], rounds: int) -> list[Result]:
    columns: dict[str, Column] = {}
    for size in sizes:
        root = folder / f"lake-{size}"
        begun = time.perf_counter()
        prepare(root, size)
        filled = time.perf_counter() - begun
        with serving(root) as (server, boot):
            columns[f"{size:,}"] = calls(server, size, rounds)
            peak = server.peak_mib()
        print(f"{size:,} keys: filled in {filled:.1f} s, boot {boot:.2f} s, peak {peak:.0f} MiB")
    if (lakefs := real()) is not None:
        upload(lakefs, "main", [f"data/{number:07}" for number in range(sizes[0])])
        lakefs.call("POST", "/branches/main/commits", {"message": "all"})
        columns[f"lakeFS {sizes[0]:,}"] = calls(lakefs, sizes[0], rounds)
    table(columns)
    largest, at = columns[f"{sizes[-1]:,}"], f"at {sizes[-1]:,} objects"
    branch, commit = largest["create branch"], largest["commit of 2"]
    return [
        (f"create branch {at}", "< 2 ms", f"{branch * 1e3:.1f} ms", branch < 0.002),
        (f"commit of 2 changed keys {at}", "< 20 ms", f"{commit * 1e3:.1f} ms", commit < 0.02),
        (f"server's memory {at}", "< 300 MiB", f"{peak:.0f} MiB", peak < 300),
        (f"boot {at}", "< 2 s", f"{boot:.2f} s", boot < 2),
    ]


def table(columns: dict[str, Column]) -> None:
    first = next(iter(columns.values()))
    print(f"\n{'ms (ratio)':26}" + "".join(f"{name:>20}" for name in columns))
    for name in first:
        cells = [f"{c[name] * 1e3:.1f} ({c[name] / first[name]:.2f})" for c in columns.values()]
        print(f"{name:26}" + "".join(f"{cell:>20}" for cell in cells))


def calls(server: Server, size: int, rounds: int) -> Column:
    """Median seconds of each call; every round works on branches and keys of its own."""
    found: dict[str, list[float]] = {}

    def timed(name: str, method: str, path: str, body: object = None) -> None:
        begun = time.perf_counter()
        server.call(method, path, body)
        found.setdefault(name, []).append(time.perf_counter() - begun)

    for number in range(rounds + 1):
        timed("the request alone", "GET", "")
        for changes, most in CHANGES.items():
            if number > min(rounds, most):
                continue
            branch = f"b{number}-{changes}"
            timed("create branch", "POST", "/branches", {"name": branch, "source": "main"})
            upload(server, branch, [key_of(number, n, size) for n in range(changes)])
            commits = f"/branches/{branch}/commits"
            timed(f"commit of {changes:,}", "POST", commits, {"message": "m"})
            timed(f"diff of {changes:,}", "GET", f"/refs/main/diff/{branch}?amount=100")
        one = f"/refs/b{number}-1/merge/main"
        timed("merge of 1", "POST", one, {"message": "m"})
        timed("list 100 keys", "GET", "/refs/main/objects/ls?amount=100")
    # The first round warms the caches, where there was another.
    return {name: statistics.median(s[1:] or s) for name, s in found.items()}


def key_of(round_: int, number: int, size: int) -> str:
    """A key that is there, somewhere in the whole range, as long as there are enough."""
    return f"data/{(number * 7919 + round_ * 104_729) % max(size, 20_011):07}"


def upload(server: Server, branch: str, keys: list[str]) -> None:
    def put(key: str) -> None:
        server.put(branch, key, os.urandom(32))

    if len(keys) < UPLOADERS:
        for key in keys:
            put(key)
        return
    with ThreadPoolExecutor(UPLOADERS) as pool:
        list(pool.map(put, keys))


def octets(folder: Path) -> list[Result]:
    root = folder / "bytes"
    prepare(root, 0)
    with serving(root) as (server, _):
        print(f"\n{'the embedded lake':-^100}")
        large = throughput(server, folder)["100 MiB"]
        peak = server.peak_mib()
    if (lakefs := real()) is not None:
        print(f"{'lakeFS':-^100}")
        throughput(lakefs, folder)
    put, get = large["hash"] / large["put"], large["copy"] / large["get"]
    return [
        ("100 MiB PUT, of the rate of SHA-256 and MD5", ">= 0.8", f"{put:.2f}", put >= 0.8),
        ("100 MiB GET, of the rate of copyfile", ">= 0.8", f"{get:.2f}", get >= 0.8),
        ("server's memory while bytes pass", "< 300 MiB", f"{peak:.0f} MiB", peak < 300),
    ]


def beside_dvc(folder: Path, dvc: str | None) -> list[Result]:
    root = folder / "versioned"
    prepare(root, 0)
    print()
    with serving(root) as (server, _):
        found = versioning(server, folder, dvc)
    if found is None:
        return []
    ratio = found[1] / found[0]
    return [("versioning 1 GiB, faster than DVC", ">= 20 x", f"{ratio:.1f} x", ratio >= 20)]


if __name__ == "__main__":
    main()
