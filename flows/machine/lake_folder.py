"""The embedded lake as a folder of this machine: what keeps it sound, served or not."""

from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from flows.errors import Misconfigured
from flows.machine.process_records import ProcessRecords
from flows.machine.services import LAKE
from flows.settings import Settings
from storage.embedded.bytes.folder_locks import is_served
from storage.embedded.lake import EmbeddedLake
from storage.embedded.upkeep.garbage_collection import Collected, collect
from storage.errors import NotFound, Unavailable

# A collection answers when it is done.
GC_TIMEOUT_S = 3600.0


def lake_folder(settings: Settings) -> Path:
    """Where the embedded lake is. Raises: Misconfigured if a lakeFS of one's own is named."""
    if not settings.lake_is_embedded:
        raise Misconfigured(
            f"LAKEFS_ENDPOINT names {settings.lake_url}; this keeps only the embedded lake",
            remedy="unset LAKEFS_ENDPOINT, or use that lakeFS's own tools",
        )
    return settings.home / "lake"


def default_backup(settings: Settings) -> Path:
    """The folder that a backup goes to if none is named."""
    return settings.home / "backups" / "lake"


def collect_garbage(settings: Settings, *, grace_s: float, dry_run: bool) -> Collected:
    """Collect in the server if one runs, otherwise in this process.

    Raises: NotFound without a lake, Unavailable if the server does not answer, what `collect` does.
    """
    folder = lake_folder(settings)
    if is_served(folder):
        return _ask_server(settings, grace_s=grace_s, dry_run=dry_run)
    if not (folder / "graph.sqlite").exists():
        raise NotFound(f"there is no lake in {folder}", remedy="`headrace up` makes one.")
    with closing(EmbeddedLake(folder)) as lake:
        return collect(lake, grace_s=grace_s, dry_run=dry_run)


def _ask_server(settings: Settings, *, grace_s: float, dry_run: bool) -> Collected:
    access = settings.lake_access()
    key = (access.access_key_id, access.secret_access_key.get_secret_value())
    server = _find_server(settings)
    url = f"{server}/_headrace/gc"
    body = {"grace_s": grace_s, "dry_run": dry_run}
    try:
        with httpx.Client(auth=key, timeout=GC_TIMEOUT_S, trust_env=False) as http:
            answer = http.post(url, json=body)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the lake at {server} is running but does not answer: {error}",
            remedy="See `headrace status`; HEADRACE_LAKE_PORT must be the one it was started with.",
        ) from error
    if answer.status_code != 200:
        raise Unavailable(f"the lake refused: {_read_message(answer)}", remedy="Try again later.")
    return Collected(**answer.json())


def _find_server(settings: Settings) -> str:
    """Where the lake of this folder answers: as `up` started it, else where the settings say.

    The lake's key goes there, so it must not be whoever has the port of today's settings.
    """
    record = ProcessRecords(settings.home).read(LAKE)
    return record.address if record is not None and record.alive else settings.lake_url


def _read_message(answer: httpx.Response) -> str:
    try:
        body: Any = answer.json()
        return str(body["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
