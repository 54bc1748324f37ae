"""The local spool: every answered prediction stands in a file before its answer leaves.

A segment is one file of JSON lines, a line a row, and becomes one batch. Durability, exactly:
a line is handed to the operating system before the answer is sent, so it survives kill -9 of this
process; files are synced twice a second, so a power cut can take the last second of predictions.
A line torn by either is dropped on recovery; after kill -9 it was never acknowledged.

The spool is bounded. Rows that find it full, or its disk, are counted as lost and still answered:
accepted = delivered + spooled + lost, at all times and across restarts.
"""

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import Misconfigured
from flows.service.predictions.segments import (
    Columns,
    OpenSegment,
    Segment,
    recover,
    sync_and_close,
    write_columns,
)
from security.files import replace_file

_LEDGER, _LOCK = "counts.json", "lock"


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """When a segment is closed, and how much may wait on this disk."""

    segment_rows: int = 100_000
    idle_s: float = 1.0
    max_age_s: float = 30.0
    max_bytes: int = 2**30


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """Rows since the spool was first made."""

    spooled: int
    delivered: int
    lost: int

    @property
    def accepted(self) -> int:
        """Every row that was answered."""
        return self.spooled + self.delivered + self.lost


class Spool:
    """The segments of one environment on this machine; one process at a time holds the folder.

    Safe to share between threads. Raises: Misconfigured if another process holds the folder.
    """

    def __init__(self, folder: Path, *, prefix: str, limits: SpoolLimits) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._prefix, self._limits = folder, prefix, limits
        self._held = _hold(folder)
        self._guard = threading.Lock()
        self._open: OpenSegment | None = None
        self._full: list[OpenSegment] = []
        self._delivered, self._lost, settled = _read_ledger(folder)
        self._written = (self._delivered, self._lost)
        self._closed = recover(folder, settled=settled)
        self._size = sum(segment.size for segment in self._closed)

    @property
    def counts(self) -> SpoolCounts:
        """Where every answered row is now."""
        with self._guard:
            return SpoolCounts(sum(s.rows for s in self._segments()), self._delivered, self._lost)

    @property
    def size(self) -> int:
        """Bytes that wait on this disk."""
        return self._size

    def declare(self, columns: Columns) -> str:
        """Write down columns that rows will have; returns what to append them under."""
        return write_columns(self._folder, columns)

    def append(self, lines: bytes, *, rows: int, columns: str) -> None:
        """Take `rows` whole lines, or count them as lost if there is no room for them."""
        with self._guard:
            if not self._append(lines, rows, columns):
                self._lost += rows
            elif self._open and self._open.rows >= self._limits.segment_rows:
                self._close()

    def sync(self) -> None:
        """Make what was appended durable, and close the segment if its time has come."""
        with self._guard:
            if self._open and self._is_due(self._open, time.monotonic()):
                self._close()
            full, handle = list(self._full), self._duplicate_unsynced()
        # Without the guard: a slow disk must not hold up an answer.
        if handle is not None:
            sync_and_close(handle)
        for segment in full:
            self._finish(segment)
        self._write_ledger()

    def rotate(self) -> None:
        """Close the open segment now, whatever its age."""
        with self._guard:
            self._close()
        self.sync()

    def waiting(self) -> list[Segment]:
        """Closed segments, oldest first."""
        with self._guard:
            return list(self._closed)

    def settle(self, segment: Segment, *, lost: int = 0) -> None:
        """Forget a segment that was delivered, but for `lost` rows that could not be read."""
        with self._guard:
            counts = (self._delivered + segment.rows - lost, self._lost + lost)
        # Written before the file goes and before memory says so: neither a crash in between nor
        # a full disk counts it twice.
        self._write_counts(counts, settled=segment.id)
        with self._guard:
            self._closed.remove(segment)
            self._size -= segment.size
            self._delivered += segment.rows - lost
            self._lost += lost
        segment.lines.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the open segment and let another process have the folder."""
        self.rotate()
        os.close(self._held)

    def _append(self, lines: bytes, rows: int, columns: str) -> bool:
        if self._size + len(lines) > self._limits.max_bytes:
            return False
        if self._open and self._open.columns != columns:
            self._close()
        try:
            self._open = self._open or OpenSegment(self._folder, self._new_id(), columns)
        except OSError:
            return False
        if self._open.write(lines, rows):
            self._size += len(lines)
            return True
        # A torn line may stay behind; nothing must be written after it.
        self._close()
        return False

    def _new_id(self) -> str:
        return f"{self._prefix}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"

    def _close(self) -> None:
        if self._open is not None:
            self._full.append(self._open)
            self._open = None

    def _duplicate_unsynced(self) -> int | None:
        """A second handle on the open segment if it has bytes that were not synced."""
        if self._open is None or not self._open.unsynced:
            return None
        self._open.unsynced = False
        return os.dup(self._open.handle)

    def _finish(self, full: OpenSegment) -> None:
        """Sync a full segment; from now on it may be delivered."""
        closed = full.close()
        with self._guard:
            self._full.remove(full)
            if closed.rows:
                self._closed.append(closed)
        if not closed.rows:
            closed.lines.unlink(missing_ok=True)

    def _is_due(self, segment: OpenSegment, now: float) -> bool:
        idle, age = now - segment.last, now - segment.first
        return idle >= self._limits.idle_s or age >= self._limits.max_age_s

    def _segments(self) -> Iterator[Segment | OpenSegment]:
        yield from self._closed
        yield from self._full
        if self._open:
            yield self._open

    def _write_ledger(self) -> None:
        with self._guard:
            now = (self._delivered, self._lost)
        if now != self._written:
            self._write_counts(now)

    def _write_counts(self, counts: tuple[int, int], *, settled: str = "") -> None:
        body = {"delivered": counts[0], "lost": counts[1], "settled": settled}
        replace_file(self._folder / _LEDGER, json.dumps(body).encode())
        self._written = counts


def _hold(folder: Path) -> int:
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Misconfigured(
            f"another prediction service already uses {folder}",
            remedy="stop it with `headrace down`, or set HEADRACE_HOME to a folder of its own",
        ) from None
    return handle


def _read_ledger(folder: Path) -> tuple[int, int, str]:
    try:
        body = json.loads((folder / _LEDGER).read_bytes())
        return int(body["delivered"]), int(body["lost"]), str(body["settled"])
    except FileNotFoundError:
        return 0, 0, ""
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{folder / _LEDGER} does not hold the spool's counts",
            remedy="remove it; the counts then start again from what is spooled",
        ) from error
