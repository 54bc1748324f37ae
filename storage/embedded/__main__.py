"""`python -m storage.embedded --root DIR`: run the embedded lakeFS until it is told to stop.

LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY give the key that may do everything, beside the
lake's own. A lake without any key gets its first when it starts, shown once.

Prints one line with its address on stdout once it accepts connections. Exit codes: 0 after
SIGTERM or SIGINT, when requests under way were answered; 1 if it could not start.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import apsw
import uvicorn
from starlette.applications import Starlette

from storage.embedded.app import create_app
from storage.embedded.disk import make_durable_folder
from storage.embedded.http.connections import LIMITS, MOST_HEADER_BYTES, LakeProtocol
from storage.embedded.keys.first_key import check_keys
from storage.embedded.keys.sessions import Credentials
from storage.errors import Refused, StorageError, Unavailable
from storage.http.access_log import AccessLog
from storage.http.deadlines import allow_descriptors, sweep

DRAIN_S = 30
BACKLOG = 512


def main() -> int:
    """Start, serve, drain."""
    arguments = _arguments()
    try:
        credentials = _credentials()
        listening = _listen(arguments.host, arguments.port)
        root = _make_writable(arguments.root)
        check_keys(root, make_first=credentials is None)
        app = _open_app(root, credentials, _access_log(arguments.access_log))
    except StorageError as error:
        print(f"{error}\n{error.remedy}", file=sys.stderr)
        return 1
    allow_descriptors(LIMITS)
    config = uvicorn.Config(
        app,
        http=LakeProtocol,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_S,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )
    _serve(uvicorn.Server(config), listening)
    return 0


def _open_app(root: Path, credentials: Credentials | None, log: AccessLog | None) -> Starlette:
    """The application over its lake. Raises: StorageError, whatever is in the way."""
    try:
        return create_app(root, credentials, log)
    except (OSError, apsw.Error) as error:
        raise Unavailable(
            f"cannot open the lake in {root}: {error}",
            remedy="Check that its disk has space and that all in it is this account's to write.",
        ) from error


def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    # For a signal that comes before uvicorn listens for them, and for the one that it hands on
    # after it has drained.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    host, port = listening.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    print(f"lakeFS is at http://{place}:{port}", flush=True)
    print(_who_reaches(host), flush=True)
    asyncio.run(_run(server, listening))


async def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    sweeping = asyncio.create_task(sweep(server.server_state.connections))
    await server.serve(sockets=[listening])
    sweeping.cancel()


def _who_reaches(host: str) -> str:
    if ip_address(host).is_loopback:
        return "Only this machine reaches it; --host ADDRESS opens it to others."
    return "Other machines reach it, over plain HTTP: put a proxy with TLS in front of it."


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m storage.embedded", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the lake")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free port")
    parser.add_argument(
        "--access-log", type=Path, metavar="FILE", help="one JSON line a request; - is stderr"
    )
    return parser.parse_args()


def _credentials() -> Credentials | None:
    """The key in the environment, if there is one. Raises: Refused for half of one."""
    names = ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if len(missing) == 1:
        raise Refused(
            f"half a credential: {missing[0]} is not set",
            remedy="Set both variables to the key that clients will use, or neither.",
        )
    return None if missing else Credentials(*(os.environ[name] for name in names))


def _access_log(path: Path | None) -> AccessLog | None:
    try:
        return None if path is None else AccessLog(path)
    except OSError as error:
        raise Unavailable(
            f"cannot write the access log {path}: {_explain(error)}",
            remedy="Choose another --access-log.",
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        # asyncio switches Nagle's delay off only where the protocol is named.
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {_explain(error)}",
            remedy="Choose another --port, or stop what is using this one.",
        ) from error


def _make_writable(root: Path) -> Path:
    probe = root / "incoming"
    try:
        make_durable_folder(root)
        probe.mkdir(exist_ok=True)
        test = probe / "writable"
        test.touch()
        test.unlink()
    except OSError as error:
        raise Unavailable(
            f"cannot write to {root}: {_explain(error)}",
            remedy="Choose another --root, or make this one writable.",
        ) from error
    return root


def _explain(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


if __name__ == "__main__":
    sys.exit(main())
