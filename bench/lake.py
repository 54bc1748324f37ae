"""The embedded lake: what version control costs as the repository grows, and bytes beside a disk.

    python bench/lake.py [--sizes 1000 10000 100000] [--rounds 9] [--layouts]

Graph: the same calls over HTTP on repositories of several sizes; the ratio to the smallest says
whether a call costs what changed or what exists. With LAKEFS_ENDPOINT and its key the smallest
size runs there too. Bytes: PUT beside hashing (SHA-256 and MD5, which both are owed) and beside a
file written and synced; GET beside a file read. `--layouts` compares range and group sizes in
this process. Medians; ratios are the figures to keep.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import md5, sha256
from pathlib import Path

import httpx

from storage.embedded import history, ranges, repositories
from storage.embedded.history import Message
from storage.embedded.lake import Lake
from storage.embedded.objects import put_object
from storage.embedded.ranges import Entry, entry
from storage.embedded.staging import stage

KEY, SECRET = "AKIAHEADRACEBENCH", "only-for-a-benchmark"
REPOSITORY = "bench"
SAID = Message("bench", "bench")
LAYOUTS = [(64, 64), (128, 64), (256, 16), (256, 64), (256, 1 << 20), (1024, 64)]
FLAT = 1 << 20
BODIES = {"1 KiB": (1 << 10, 40), "1 MiB": (1 << 20, 12), "100 MiB": (100 << 20, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layouts", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.layouts:
            layouts(Path(folder), max(given.sizes), given.rounds)
            return
        graph(Path(folder), sorted(given.sizes), given.rounds)
        octets(Path(folder))


def graph(folder: Path, sizes: list[int], rounds: int) -> None:
    columns: dict[str, dict[str, float]] = {}
    for size in sizes:
        root = folder / f"lake-{size}"
        prepare(root, size)
        with serving(root) as http:
            columns[f"{size:,}"] = calls(http, rounds)
    if os.environ.get("LAKEFS_ENDPOINT"):
        with real() as http:
            upload_all(http, sizes[0])
            columns[f"lakeFS {sizes[0]:,}"] = calls(http, rounds)
    first = next(iter(columns.values()))
    print(f"{'ms (ratio)':26}" + "".join(f"{name:>20}" for name in columns))
    for name in first:
        cells = [f"{c[name] * 1e3:.1f} ({c[name] / first[name]:.2f})" for c in columns.values()]
        print(f"{name:26}" + "".join(f"{cell:>20}" for cell in cells))


def calls(http: httpx.Client, rounds: int) -> dict[str, float]:
    """Median seconds of each call; every round works on branches and keys of its own."""
    found: dict[str, list[float]] = {}

    def timed(name: str, method: str, path: str, body: object = None) -> None:
        begun = time.perf_counter()
        answer = http.request(method, path, json=body) if body else http.request(method, path)
        found.setdefault(name, []).append(time.perf_counter() - begun)
        answer.raise_for_status()

    base = f"/repositories/{REPOSITORY}"
    for number in range(rounds + 1):
        branch = f"b{number}-{os.getpid()}"
        timed("the request alone", "GET", base)
        timed("create branch", "POST", f"{base}/branches", {"name": branch, "source": "main"})
        for key in (f"data/{number * 37 % 1000:07}", f"data/{number * 53 % 1000 + 1:07}"):
            put(http, branch, key, os.urandom(64))
        timed("commit of 2 keys", "POST", f"{base}/branches/{branch}/commits", {"message": "m"})
        timed("diff of 2 keys", "GET", f"{base}/refs/main/diff/{branch}")
        one = f"one-{branch}"
        http.post(f"{base}/branches", json={"name": one, "source": "main"}).raise_for_status()
        put(http, one, f"data/{number * 71 % 1000:07}x", os.urandom(64))
        http.post(f"{base}/branches/{one}/commits", json={"message": "m"}).raise_for_status()
        timed("merge of 1 key", "POST", f"{base}/refs/{one}/merge/main", {"message": "m"})
        timed("list 100 keys", "GET", f"{base}/refs/main/objects/ls?amount=100")
    # The first round warms the caches.
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


def put(http: httpx.Client, branch: str, key: str, content: bytes) -> None:
    path = f"/repositories/{REPOSITORY}/branches/{branch}/objects"
    http.post(path, params={"path": key}, content=content).raise_for_status()


def octets(folder: Path) -> None:
    print(f"\n{'':10}{'PUT MB/s':>10}{'of hashing':>12}{'of write+sync':>15}", end="")
    print(f"{'GET MB/s':>11}{'of read':>9}")
    prepare(folder / "bytes", 0)
    with serving(folder / "bytes") as http:
        for name, (size, rounds) in BODIES.items():
            print(f"{name:10}{_bytes_row(http, folder / 'plain', size, rounds)}")


def _bytes_row(http: httpx.Client, plain: Path, size: int, rounds: int) -> str:
    times: dict[str, list[float]] = {}
    for number in range(rounds):
        body = os.urandom(size)
        works: dict[str, Callable[[], object]] = {
            "hash": lambda b=body: (sha256(b).digest(), md5(b, usedforsecurity=False).digest()),
            "write": lambda b=body: write_synced(plain, b),
            "put": lambda b=body, n=number: put(http, "main", f"k{size}-{n}", b),
            "read": lambda: read_plain(plain),
            "get": lambda n=number: read_object(http, f"k{size}-{n}"),
        }
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - begun)
    at = {name: statistics.median(seconds) for name, seconds in times.items()}
    rate = size / 1e6
    return (
        f"{rate / at['put']:10.1f}{at['hash'] / at['put']:12.2f}{at['write'] / at['put']:15.2f}"
        f"{rate / at['get']:11.1f}{at['read'] / at['get']:9.2f}"
    )


def write_synced(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def read_plain(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def read_object(http: httpx.Client, key: str) -> None:
    path = f"/repositories/{REPOSITORY}/refs/main/objects"
    with http.stream("GET", path, params={"path": key}) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            pass


def layouts(folder: Path, size: int, rounds: int) -> None:
    print(f"{size:,} keys in this process, ms; kB that a commit of 2 keys writes")
    print(f"{'range x group':>16}{'commit of 2':>12}{'merge of 1':>12}{'cold get':>10}{'kB':>8}")
    for keys, group in LAYOUTS:
        ranges.RANGE_KEYS, ranges.GROUP_RANGES = keys, group
        root = folder / f"layout-{keys}-{group}"
        prepare(root, size)
        lake = Lake(root)
        row = _layout_row(lake, size, rounds)
        label = f"{keys} x {'all' if group == FLAT else group}"
        print(
            f"{label:>16}"
            + "".join(f"{value:{w}.2f}" for value, w in zip(row, (12, 12, 10, 8), strict=True))
        )


def _layout_row(lake: Lake, size: int, rounds: int) -> tuple[float, ...]:
    found: dict[str, list[float]] = {"commit": [], "merge": [], "get": []}
    before = stored(lake)
    for number in range(rounds):
        for key in (number * 7919 % size, number * 104729 % size):
            value = made((number + 1) * size + key)
            lake.write(lambda view, k=key, v=value: put_object(view, *MAIN, f"data/{k:07}", v))
        found["commit"].append(timed(lambda: history.commit(lake, REPOSITORY, "main", SAID)))
    written = (stored(lake) - before) / rounds / 1e3
    for number in range(rounds):
        side(lake, number, size)
        found["merge"].append(
            timed(lambda n=number: history.merge(lake, REPOSITORY, f"s{n}", "main", SAID))
        )
    lake.close()
    for number in range(rounds):
        again = Lake(lake.root)
        key = f"data/{number * 7907 % size:07}"
        found["get"].append(timed(lambda a=again, k=key: a.read(lambda view: find(view, k))))
        again.close()
    medians = [statistics.median(found[name]) * 1e3 for name in ("commit", "merge", "get")]
    return (*medians, written)


MAIN = (REPOSITORY, "main")


def find(view: object, key: str) -> object:
    from storage.embedded.objects import find_object

    return find_object(view, REPOSITORY, "main", key)  # type: ignore[arg-type]


def side(lake: Lake, number: int, size: int) -> None:
    from storage.embedded.branches import create_branch

    name, key, value = f"s{number}", f"data/{number * 6151 % size:07}", made(number + (1 << 40))
    lake.write(
        lambda view: create_branch(view, REPOSITORY, name, "main", hidden=False, force=False)
    )
    lake.write(lambda view: put_object(view, REPOSITORY, name, key, value))
    history.commit(lake, REPOSITORY, name, SAID)


def stored(lake: Lake) -> int:
    query = "SELECT sum(length(body)) FROM node"
    return int(lake.read(lambda view: view.rows.execute(query).get) or 0)


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def made(number: int) -> Entry:
    digest = sha256(str(number).encode()).hexdigest()
    return entry(
        digest=digest,
        etag=digest[:32],
        size=number % 100_000,
        content_type="application/octet-stream",
        modified_s=1_700_000_000,
        metadata={},
    )


def prepare(root: Path, size: int) -> None:
    """A repository with `size` committed keys whose bytes nobody will ask for."""
    lake = Lake(root)
    lake.write(
        lambda view: repositories.create_repository(
            view.rows, REPOSITORY, f"local://{REPOSITORY}", "main", read_only=False
        )
    )

    def fill(view: object) -> None:
        for number in range(size):
            stage(view.rows, 1, f"data/{number:07}", made(number))  # type: ignore[attr-defined]

    lake.write(fill)
    if size:
        history.commit(lake, REPOSITORY, "main", SAID)
    lake.close()


@contextmanager
def serving(root: Path) -> Iterator[httpx.Client]:
    # The bytes behind prepared keys are not there, so the sample at boot must not look for them.
    command = [sys.executable, "-c", _SERVE, "--root", str(root), "--port", "0"]
    keys = {"LAKEFS_ACCESS_KEY_ID": KEY, "LAKEFS_SECRET_ACCESS_KEY": SECRET}
    process = subprocess.Popen(
        command, env={**os.environ, **keys}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        yield httpx.Client(
            base_url=f"{url}/api/v1", auth=(KEY, SECRET), timeout=120, trust_env=False
        )
    finally:
        process.terminate()
        process.wait(60)


_SERVE = """
import sys
from storage.embedded import boot
boot.SAMPLED_TREES = 0
from storage.embedded.__main__ import main
sys.exit(main())
"""


@contextmanager
def real() -> Iterator[httpx.Client]:
    """The lakeFS that LAKEFS_ENDPOINT names, with a repository for this run."""
    name = f"{REPOSITORY}-{os.getpid()}"
    auth = (os.environ["LAKEFS_ACCESS_KEY_ID"], os.environ["LAKEFS_SECRET_ACCESS_KEY"])
    url = f"{os.environ['LAKEFS_ENDPOINT'].rstrip('/')}/api/v1"
    with httpx.Client(base_url=url, auth=auth, timeout=120, trust_env=False) as http:
        body = {"name": name, "storage_namespace": f"local://{name}"}
        http.post("/repositories", json=body).raise_for_status()
        globals()["REPOSITORY"] = name
        yield http


def upload_all(http: httpx.Client, size: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(http, "main", f"data/{n:07}", b"%d" % n), range(size)))
    path = f"/repositories/{REPOSITORY}/branches/main/commits"
    http.post(path, json={"message": "all"}).raise_for_status()


if __name__ == "__main__":
    main()
