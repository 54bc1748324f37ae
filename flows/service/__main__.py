"""The prediction service of one environment: `python -m flows.service --port N`.

It reconciles to the environment's signed index by itself. Exit codes: 0 after a clean stop,
1 when it cannot start (two lines on stderr say why), 2 for wrong usage.
"""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from flows.errors import Misconfigured, StageError
from flows.settings import LOOPBACK, Settings
from security.errors import SecurityError
from storage.errors import StorageError

if TYPE_CHECKING:
    from flows.service.assembly import ServedEnvironment
    from storage.lake import Lake


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises: Misconfigured if it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named; answers would take 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}",
            remedy="stop what uses the port, or set HEADRACE_SERVICE_PORT",
        ) from None
    return listening


def read_environment(settings: Settings) -> "ServedEnvironment":
    """Where the settings say to serve. Raises: Misconfigured."""
    from flows.pipeline import load_pipeline
    from flows.service.assembly import ServedEnvironment

    pipeline = load_pipeline(settings.pipeline)
    return ServedEnvironment(
        pipeline.name,
        pipeline.key,
        settings.environment,
        settings.keys,
        settings.home / "serve" / settings.environment,
    )


def open_lake(settings: Settings) -> "Lake":
    """The lake, after it answered once. Raises: Misconfigured, Unavailable, Forbidden."""
    from storage.lake import Lake
    from storage.lake.client import Access

    access = settings.lake_access()
    secret = access.secret_access_key.get_secret_value()
    lake = Lake(Access(access.endpoint, access.access_key_id, secret))
    lake.fs.health()
    return lake


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service; the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # It reports each attempt; what came of them is said once, by us. Not its parent: the lake's
    # client sets that one back.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        _run(given)
    except (StageError, StorageError, SecurityError) as error:
        print(f"headrace: {error}", file=sys.stderr)
        print(
            f"  hint: {error.remedy or 'GET /status of a running service says more'}",
            file=sys.stderr,
        )
        return 1
    return 0


def _run(given: argparse.Namespace) -> None:
    settings = Settings.load()
    # First of all: a port in use is known at once, the rest takes seconds to import.
    listening = listen(given.host, settings.service_port if given.port is None else given.port)
    # Before polars is imported: writing Parquet must not take the cores that answer requests.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")

    from flows.service.assembly import PredictionService
    from flows.service.http.limits import RequestLimits, connection_limits
    from flows.service.predictions.spool import SpoolLimits
    from security.keys.keyfiles import forbid_core_dumps
    from storage.http.deadlines import allow_descriptors

    forbid_core_dumps()
    limits = RequestLimits()
    allow_descriptors(connection_limits(limits))
    lake, served = open_lake(settings), read_environment(settings)
    spool_limits = SpoolLimits(segment_rows=given.spool_rows, idle_s=given.spool_idle_s)
    service = PredictionService(lake, served, limits=limits, spool_limits=spool_limits)
    host, port = listening.getsockname()[:2]
    print(f"serving {served.pipeline} ({served.environment}) on http://{host}:{port}", flush=True)
    with suppress(KeyboardInterrupt):
        service.run(listening)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.service", description=__doc__)
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--spool-rows", type=int, default=100_000, help="rows of a batch at most")
    parser.add_argument(
        "--spool-idle-s", type=float, default=1.0, help="seconds without a row that end a batch"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
