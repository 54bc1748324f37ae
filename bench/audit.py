"""What an audit entry costs, in a log of ten entries and of ten thousand: `python bench/audit.py`.

Each append is a whole run transaction on an embedded lakeFS; beside it stands the same transaction
with one small file and no entry. `LAKEFS_ENDPOINT` and its key point it at another lakeFS. Trust
the ratios, not the milliseconds.
"""

import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import audit
from flows.audit import reading
from security.audit.log import check_growth
from storage import registry
from storage.lake import Lake, releases
from storage.lake.client import Access
from storage.runs import Job, Outcome, Run, commit_once

SMALL, LARGE, ROUNDS, PER_COMMIT = 10, 10_000, 15, 500


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as access:
        lake, name = Lake(access), f"bench-{secrets.token_hex(4)}"
        lake.create_pipeline(name)
        bare, small = measured(lake, name, SMALL)
        again, large = measured(lake, name, LARGE)
        pin = registry.head(lake, name)
        whole = seconds(lambda: audit.read_log(lake, pin))
        log = audit.read_log(lake, pin)
        proving = seconds(lambda: log.inclusion_proof(LARGE // 2))
        now = reading.read_peaks(lake, pin.repository, pin.commit)
        last = log.lines[now.size - now.size % 64 :]
        growth = seconds(lambda: check_growth(now, now, last))
    print(f"{'entries':>10}{'plain ms':>12}{'with entry ms':>16}{'ratio':>8}")
    for count, plain, with_entry in ((SMALL, bare, small), (LARGE, again, large)):
        ratio = with_entry / plain
        print(f"{count:>10}{1000 * plain:>12.1f}{1000 * with_entry:>16.1f}{ratio:>8.2f}")
    print(f"reading and checking {len(log.lines)} entries: {whole / large:.1f} appends")
    print(f"an inclusion proof: {len(log.inclusion_proof(0))} hashes, {1000 * proving:.1f} ms")
    print(f"checking growth from the last segment: {1000 * growth:.2f} ms")


def measured(lake: Lake, name: str, entries: int) -> tuple[float, float]:
    """Median seconds of a plain commit, and of one with an entry, at a log of that length."""
    grow(lake, name, entries)
    plain, told = [], []
    # Alternating, so that both meet the same load.
    for _ in range(ROUNDS):
        plain.append(seconds(lambda: commit(lake, name, put_file)))
        told.append(seconds(lambda: commit(lake, name, put_file_and_entry)))
    return statistics.median(plain), statistics.median(told)


def grow(lake: Lake, name: str, entries: int) -> None:
    pin = registry.head(lake, name)
    missing = entries - reading.read_peaks(lake, pin.repository, pin.commit).size
    while missing > 0:
        count = min(missing, PER_COMMIT)
        commit(lake, name, lambda run, count=count: audit.append_events(run, *(event(),) * count))
        missing -= count


def commit(lake: Lake, name: str, body: Callable[[Run], None]) -> Outcome:
    run_id = secrets.token_hex(32)
    return commit_once(lake, Job(releases(name), "bench", run_id), body)


def put_file(run: Run) -> None:
    run.put(f"bench/{secrets.token_hex(8)}", b"x" * 1000)


def put_file_and_entry(run: Run) -> None:
    put_file(run)
    audit.append_events(run, event())


def event() -> audit.Event:
    return audit.Event(
        "index.promoted",
        "ana",
        "environments/production/index/7",
        role="releaser",
        digest="ab" * 32,
        key_ids=("cd" * 32,),
        reason="passed its canary",
        detail={"release": "flights/7"},
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def served(folder: Path) -> Iterator[Access]:
    """The lake that the environment names, or an embedded one below the folder."""
    key, secret = "LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"
    if endpoint := os.environ.get("LAKEFS_ENDPOINT"):
        yield Access(endpoint, os.environ[key], os.environ[secret])
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {key: "AKIABENCHAUDITLOG000", secret: secrets.token_hex(20)}
    command = [sys.executable, "-m", "storage.embedded", "--root", str(folder / "lake")]
    server = subprocess.Popen([*command, "--port", str(port)], env={**os.environ, **own})
    try:
        wait(f"http://127.0.0.1:{port}/api/v1/healthcheck")
        yield Access(f"http://127.0.0.1:{port}", own[key], own[secret])
    finally:
        server.terminate()
        server.wait(20)


def wait(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} does not answer")


if __name__ == "__main__":
    main()
