"""Questions to a port: is it taken, by whom, does it answer, does the worker report."""

import socket
from datetime import datetime

import httpx

from flows.settings import LOOPBACK

ASK_SECONDS = 2.0


def port_taken(port: int) -> bool:
    """Whether somebody listens on the loopback port, or holds it so that we could not."""
    # Where SO_REUSEADDR lets a second listener bind, only a connection shows the first.
    with socket.socket() as probe:
        probe.settimeout(ASK_SECONDS)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def is_listening(pid: int, port: int) -> bool:
    """Whether this very process has the TCP port; False too where it may not be looked into."""
    import psutil

    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def answers(url: str) -> bool:
    """Whether a GET of `url` succeeds now."""
    try:
        return httpx.get(url, timeout=ASK_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def worker_polls(api: str, pool: str, name: str, *, since: datetime) -> bool:
    """Whether the pool's worker `name` has reported after `since`."""
    url = f"{api}/work_pools/{pool}/workers/filter"
    try:
        reply = httpx.post(url, json={}, timeout=ASK_SECONDS, trust_env=False)
        workers = reply.raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return False
    seen = [w["last_heartbeat_time"] for w in workers if w["name"] == name]
    return any(moment and datetime.fromisoformat(moment) >= since for moment in seen)
