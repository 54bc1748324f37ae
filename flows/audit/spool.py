"""Events that the lake has not taken yet: a file each, named by digest, so that none doubles."""

import logging
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from flows.audit.events import Event
from security.errors import Untrusted
from security.files import read_regular, replace_file
from security.formats.strict_json import from_bytes, to_bytes

MAX_EVENTS = 1000
MAX_EVENT_BYTES = 16 * 2**10
_log = logging.getLogger(__name__)


def name_of(event: Event) -> str:
    """The event's name: its digest, so that whoever tells it again tells it once."""
    return sha256(to_bytes(event.tidied())).hexdigest()


def keep_event(folder: Path, event: Event) -> bool:
    """Keep an event durably; False, and a line in the log, if the spool is full or cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(1 for _ in folder.iterdir()) >= MAX_EVENTS:
            _log.error("the audit spool is full; lost: %s %s", event.kind, event.subject)
            return False
        replace_file(folder / f"{name_of(event)}.json", to_bytes(event.tidied()))
    except OSError as error:
        _log.error("the audit spool failed (%s); lost: %s %s", error, event.kind, event.subject)
        return False
    return True


def list_waiting(folder: Path) -> Iterator[tuple[Path, Event]]:
    """What is kept, in the order of names; a damaged file is set aside, and said."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            yield path, parse_event(read_regular(path, max_bytes=MAX_EVENT_BYTES))
        except Untrusted as error:
            _log.error("%s is no audit event: %s", path.name, error)
            path.rename(path.with_suffix(".damaged"))


def parse_event(data: bytes) -> Event:
    """Read an event strictly. Raises: Untrusted."""
    return from_bytes(Event, data)
