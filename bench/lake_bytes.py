"""Bytes for bench/lake.py: PUT beside hashing and a synced write, GET beside a file copy."""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path

from lake_server import Server

BODIES = {"1 KiB": (1 << 10, 60), "1 MiB": (1 << 20, 30), "100 MiB": (100 << 20, 7)}
Times = dict[str, float]


def throughput(server: Server, folder: Path) -> dict[str, Times]:
    """Median seconds of each work for each size, printed with the ratios."""
    print(
        f"{'':9}{'PUT MB/s':>10}{'of hashing':>12}{'of write+sync':>15}{'of copyfile':>13}", end=""
    )
    print(f"{'GET MB/s':>11}{'of copyfile':>13}{'to a file: of copyfile':>24}")
    found = {}
    for name, (size, rounds) in BODIES.items():
        at = found[name] = measured(server, folder, size, rounds)
        rate, copy = size / 1e6, at["copy"]
        print(
            f"{name:9}{rate / at['put']:10.1f}{at['hash'] / at['put']:12.2f}"
            f"{at['write'] / at['put']:15.2f}{copy / at['put']:13.2f}"
            f"{rate / at['get']:11.1f}{copy / at['get']:13.2f}{copy / at['file']:24.2f}"
        )
    return found


def measured(server: Server, folder: Path, size: int, rounds: int) -> Times:
    """All the works after one another in every round, so that they share the machine's moods."""
    times: dict[str, list[float]] = {}
    plain, copied = folder / "plain", folder / "copied"
    for number in range(rounds):
        body, key = os.urandom(size), f"k{size}-{number}"
        works: dict[str, Callable[[], object]] = {
            "hash": lambda b=body: (sha256(b).digest(), md5(b, usedforsecurity=False).digest()),
            "write": lambda b=body: write_synced(plain, b),
            "put": lambda b=body, k=key: server.put("main", k, b),
            "copy": lambda: shutil.copyfile(plain, copied),
            "get": lambda k=key: server.get(k),
            "file": lambda k=key: server.get(k, copied),
        }
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            times.setdefault(name, []).append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def write_synced(path: Path, body: bytes) -> None:
    """What an acknowledged byte costs without a server."""
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
