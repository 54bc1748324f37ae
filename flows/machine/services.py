"""What runs on one machine: the lake, Prefect, a worker, the prediction service."""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.machine.first_use import service_key
from flows.machine.probes import answers, worker_polls
from flows.machine.process_environment import LAKE_SECRETS, LAKECTL_SECRETS, overlay
from flows.settings import LOOPBACK, Settings
from flows.trust.key_access import ALLOWED, NONE

WORK_POOL = "local"
WORKER_NAME = "headrace"
LAKE, PREFECT, WORKER, PREDICTION = "lake", "prefect", "worker", "service"


def _no_secrets() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Service:
    """One process to keep: how it starts, when it is ready, how it stops.

    `ready` is asked with the moment it was started. `needs` are ready before it starts and stop
    after it. `withheld` are inherited variables it does not get. `grace_s`: how long it may take
    to stop by itself. `hosts_runs`: its children are flow runs; they end before it does, and
    outlive its crash.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    address: str
    ready: Callable[[datetime], bool]
    port: int | None = None
    port_variable: str = ""
    secrets: Callable[[], Mapping[str, str]] = _no_secrets
    withheld: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    start_s: float = 60.0
    grace_s: float = 10.0
    hosts_runs: bool = False

    @property
    def fingerprint(self) -> str:
        """Differs when a start now would start something else; depends on no secret."""
        start = json.dumps([self.command, sorted(self.env.items())])
        return hashlib.sha256(start.encode()).hexdigest()


def local_services(settings: Settings) -> list[Service]:
    """The services of this machine, each after those it needs."""
    return [_lake(settings), _prefect(settings), _worker(settings), _prediction(settings)]


def _lake(settings: Settings) -> Service:
    url = f"http://{LOOPBACK}:{settings.lake_port}"
    where = ("--root", str(settings.home / "lake"), "--host", LOOPBACK)
    log = ("--access-log", str(settings.home / "logs" / "lake-access.jsonl"))
    return Service(
        name=LAKE,
        command=(sys.executable, "-m", "storage.embedded", *where, "--port", _port(url), *log),
        env=overlay(settings),
        folder=settings.root,
        address=url,
        ready=lambda _: answers(f"{url}/api/v1/healthcheck"),
        port=settings.lake_port,
        port_variable="HEADRACE_LAKE_PORT",
        secrets=lambda: _lake_key(settings),
    )


def _lake_key(settings: Settings) -> Mapping[str, str]:
    key = settings.lake_access()
    values = (key.access_key_id, key.secret_access_key.get_secret_value())
    return dict(zip(LAKE_SECRETS, values, strict=True))


def _prefect(settings: Settings) -> Service:
    url = settings.prefect_url
    return Service(
        name=PREFECT,
        command=(sys.executable, "-m", "flows.machine.prefect_server", "--port", _port(url)),
        env=overlay(settings),
        folder=settings.root,
        address=url,
        ready=lambda _: answers(f"{settings.prefect_api_url}/ready"),
        port=settings.prefect_port,
        port_variable="HEADRACE_PREFECT_PORT",
        withheld=(*LAKE_SECRETS, *LAKECTL_SECRETS),
        # SIGTERM would leave the write-ahead log for the next start to replay.
        stop_signal=signal.SIGINT,
        start_s=180.0,
        grace_s=20.0,
    )


def _worker(settings: Settings) -> Service:
    pool = ("--pool", WORK_POOL, "--type", "process", "--name", WORKER_NAME)
    limit = ("--limit", str(settings.worker_limit))
    api = settings.prefect_api_url
    return Service(
        name=WORKER,
        command=(sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", *pool, *limit),
        # A deployment states its own role; one that does not gets no key.
        env=overlay(settings) | {ALLOWED: NONE},
        folder=settings.root,
        address=f"{settings.prefect_url}/work-pools/work-pool/{WORK_POOL}",
        ready=lambda started: worker_polls(api, WORK_POOL, WORKER_NAME, since=started),
        needs=(PREFECT,),
        stop_signal=signal.SIGINT,
        hosts_runs=True,
    )


def _prediction(settings: Settings) -> Service:
    url = settings.service_url
    return Service(
        name=PREDICTION,
        command=(sys.executable, "-m", "flows.service", "--port", _port(url)),
        env=overlay(settings) | {ALLOWED: "serving"},
        folder=settings.root,
        address=url,
        # Alive, not ready: before the first release there is nothing to serve.
        ready=lambda _: answers(f"{url}/health/live"),
        port=settings.service_port,
        port_variable="HEADRACE_SERVICE_PORT",
        secrets=lambda: service_key(settings),
        needs=(LAKE,),
        grace_s=30.0,
    )


def _port(url: str) -> str:
    return url.rpartition(":")[2]
