"""The files of the spool: a segment of JSON lines, and the columns its rows have."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.tables import Kind
from security.files import replace_file

Columns = Mapping[str, Kind]

log = logging.getLogger(__name__)

_LINES, _COLUMNS = ".ndjson", ".columns.json"


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment, ready for delivery; `size` in bytes."""

    id: str
    lines: Path
    columns: Columns
    rows: int
    size: int


class OpenSegment:
    """The segment that rows are appended to. Raises: OSError if the disk is full."""

    def __init__(self, folder: Path, id: str, columns: str) -> None:
        self.id, self.columns = id, columns
        self.lines = folder / f"{id}.{columns}{_LINES}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self.handle = os.open(self.lines, flags, 0o600)
        self.rows = self.size = 0
        self.first = self.last = time.monotonic()
        self.unsynced = True

    def write(self, lines: bytes, rows: int) -> bool:
        """Append whole lines, or nothing and False."""
        try:
            written = os.write(self.handle, lines)
            if written != len(lines):
                os.ftruncate(self.handle, self.size)
                return False
        except OSError:
            return False
        self.size += written
        self.rows += rows
        self.last = time.monotonic()
        self.unsynced = True
        return True

    def close(self) -> Segment:
        """Sync and close the file, once; what a failing disk can still read is delivered."""
        if self.handle >= 0:
            handle, self.handle = self.handle, -1
            try:
                sync_and_close(handle)
            except OSError as error:
                log.warning("%s may not survive a power cut: %s", self.lines.name, error)
        columns = read_columns(self.lines.parent, self.columns)
        return Segment(self.id, self.lines, columns, self.rows, self.size)


def sync_and_close(handle: int) -> None:
    """Make a file's bytes durable and give the handle back."""
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_columns(folder: Path, columns: Columns) -> str:
    """Write the columns down, durably; returns the name that segments refer to them by."""
    body = json.dumps(dict(columns)).encode()
    name = hashlib.sha256(body).hexdigest()[:16]
    replace_file(folder / f"{name}{_COLUMNS}", body)
    return name


def read_columns(folder: Path, name: str) -> Columns:
    """The columns of that name."""
    columns: Columns = json.loads((folder / f"{name}{_COLUMNS}").read_bytes())
    return columns


def recover(folder: Path, *, settled: str) -> list[Segment]:
    """Segments that an earlier process left, oldest first, without torn lines.

    The one called `settled` was delivered already, and goes.
    """
    found = []
    for lines in sorted(folder.glob(f"*{_LINES}")):
        id, _, columns = lines.name.removesuffix(_LINES).rpartition(".")
        rows, size = _drop_torn_line(lines)
        if id == settled or not rows:
            lines.unlink()
        else:
            found.append(Segment(id, lines, read_columns(folder, columns), rows, size))
    return found


def _drop_torn_line(lines: Path) -> tuple[int, int]:
    """Rows and bytes of a segment once what follows its last newline is cut off."""
    rows = size = end = 0
    with lines.open("r+b") as file:
        while chunk := file.read(2**20):
            rows += chunk.count(b"\n")
            end = size + chunk.rfind(b"\n") + 1 if b"\n" in chunk else end
            size += len(chunk)
        if end != size:
            file.truncate(end)
    return rows, end
