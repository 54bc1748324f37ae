"""What `up` started, on disk: one small file a service, and the lock that lets one `up` work."""

import errno
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flows.errors import Misconfigured
from flows.machine.home_files import write_whole
from flows.machine.probes import is_listening
from flows.machine.processes import is_alive, wait_until

LOCK_SECONDS = 180


@dataclass(frozen=True)
class ProcessRecord:
    """A process that `up` started. `fingerprint` tells whether the settings changed since.

    `log_start`: length of its log, in bytes, when it was started.
    `orphans`: pid and birth of earlier leaders that died while something of theirs lived on.
    """

    name: str
    pid: int
    birth: str
    since: str
    address: str
    fingerprint: str
    log_start: int
    orphans: list[tuple[int, str]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return is_alive(self.pid, self.birth)


class ProcessRecords:
    """The records of one installation, in `.headrace/run/`."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "run"

    def read(self, name: str) -> ProcessRecord | None:
        """The record of a service; None if there is none, or none that can be read."""
        try:
            raw = json.loads(self._path(name).read_text())
            orphans = [(int(pid), str(birth)) for pid, birth in raw.pop("orphans")]
            return ProcessRecord(**raw, orphans=orphans)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def find_address(self, name: str) -> str | None:
        """Where a service's own process listens; None if it does not, whoever else may answer."""
        record = self.read(name)
        if record is None or not record.alive:
            return None
        port = urlsplit(record.address).port
        return record.address if port and is_listening(record.pid, port) else None

    def write(self, record: ProcessRecord) -> None:
        """Replace a service's record atomically."""
        write_whole(self._path(record.name), json.dumps(asdict(record), indent=2) + "\n")

    def remove(self, name: str) -> None:
        """Forget a service."""
        self._path(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Keep every other `up` and `down` of this installation waiting.

        Raises: Misconfigured if another one holds on for longer than `seconds`.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "lock").open("w") as file:
            if not wait_until(lambda: _try_lock(file.fileno()), seconds=seconds):
                raise Misconfigured(
                    f"another headrace up or down has been at work for {seconds:.0f} s",
                    remedy="wait for it, or end it with Ctrl-C and try again",
                )
            yield

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
