"""Parallel flows on SQLite: our Prefect server beside the stock one.

    python bench/prefect_sqlite.py [--scripts 3] [--flows 15] [--tasks 6]

Starts each server in a folder of its own, runs the scripts against it at once, and prints the
seconds a flow takes, the share of requests answered 503, and the ratio.
"""

import argparse
import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from statistics import quantiles

from flows.machine.probes import answers
from flows.machine.process_environment import environment
from flows.machine.processes import wait_until
from flows.settings import Settings

OURS = ("-m", "flows.machine.prefect_server", "--port")
STOCK = ("-m", "prefect", "server", "start", "--port")


@dataclass(frozen=True)
class Measured:
    """One server under the load: seconds of each flow, requests, those refused, wall seconds."""

    flow_s: list[float]
    requests: int
    refused: int
    wall_s: float

    @property
    def median_s(self) -> float:
        """The middle flow."""
        return quantiles(self.flow_s, n=100)[49]

    def row(self, name: str) -> str:
        """One line of the table."""
        p95 = quantiles(self.flow_s, n=100)[94]
        times = f"{self.median_s:8.2f} {p95:8.2f} {max(self.flow_s):8.2f}"
        return f"{name:8}{times} {self.refused / self.requests:8.1%} {self.wall_s:8.1f}"


def main() -> None:
    """Measure both servers, or be one of the scripts they serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scripts", type=int, default=3)
    parser.add_argument("--flows", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=6)
    parser.add_argument("--script", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.script:
        run_script(asked.flows, asked.tasks)
        return
    print("server       p50      p95      max      503     wall   (seconds a flow; total)")
    stock = measure(STOCK, asked)
    print(stock.row("stock"), flush=True)
    ours = measure(OURS, asked)
    print(ours.row("ours"))
    print(f"ours / stock: p50 {ours.median_s / stock.median_s:.2f},", end=" ")
    print(f"max {max(ours.flow_s) / max(stock.flow_s):.2f}, wall {ours.wall_s / stock.wall_s:.2f}")


def measure(server: tuple[str, ...], asked: argparse.Namespace) -> Measured:
    """Run the scripts against a fresh server."""
    with tempfile.TemporaryDirectory() as folder, socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        settings = Settings(root=Path(folder), home=Path(folder, "home"), prefect_port=port)
        env = environment(settings)
        (settings.home / "prefect").mkdir(parents=True)
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *server, str(port)], env=env, cwd=folder, stdout=log, stderr=log
            )
        try:
            ready = f"{settings.prefect_api_url}/ready"
            if not wait_until(lambda: answers(ready), seconds=180):
                sys.exit(Path(folder, "log").read_text())
            return load(asked, env)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def load(asked: argparse.Namespace, env: dict[str, str]) -> Measured:
    """The scripts, all at once."""
    size = ("--flows", str(asked.flows), "--tasks", str(asked.tasks))
    command = [sys.executable, str(Path(__file__).absolute()), "--script", *size]
    begun = time.monotonic()
    scripts = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(asked.scripts)
    ]
    told = [json.loads(script.communicate()[0].splitlines()[-1]) for script in scripts]
    wall_s = time.monotonic() - begun
    flow_s = [seconds for one in told for seconds in one["flow_s"]]
    return Measured(
        flow_s, sum(one["requests"] for one in told), sum(one["refused"] for one in told), wall_s
    )


def run_script(flows: int, tasks: int) -> None:
    """Flows of small tasks one after another; tell the times and the answers on stdout."""
    from prefect import flow, task

    statuses = Statuses()
    logging.getLogger("httpx").addHandler(statuses)
    logging.getLogger("httpx").setLevel(logging.INFO)

    @task
    def step(number: int) -> int:
        return number

    @flow
    async def chain() -> int:
        return sum(step(number) for number in range(tasks))

    flow_s = []
    for _ in range(flows):
        begun = time.monotonic()
        asyncio.run(chain())
        flow_s.append(time.monotonic() - begun)
    refused = statuses.seen.count("503")
    print(json.dumps({"flow_s": flow_s, "requests": len(statuses.seen), "refused": refused}))


class Statuses(logging.Handler):
    """The status codes of every request that httpx logs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the code of `HTTP Request: POST ... "HTTP/1.1 201 Created"`."""
        self.seen += re.findall(r'"HTTP/1\.1 (\d{3})', record.getMessage())


if __name__ == "__main__":
    main()
