"""The access log: one JSON line a request, without a header, a query or a secret.

Lines are written twice a second by a thread of their own, so that a slow disk or a full pipe
delays no request. A burst that the thread cannot follow drops the oldest lines and says so.
"""

import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

import orjson

FLUSH_S = 0.5
MOST_LINES = 100_000
FILE_BYTES, OLD_FILES = 64 << 20, 3
STDERR = Path("-")


class AccessLog:
    """Writes to a file, `FILE_BYTES` long with `OLD_FILES` older ones beside it, or to stderr."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, _opened(path)
        self._lines: deque[bytes] = deque(maxlen=MOST_LINES)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lake-access-log", daemon=True)
        self._thread.start()

    def add(self, **fields: object) -> None:
        """Take one line."""
        if len(self._lines) == MOST_LINES:
            self._dropped += 1
        self._lines.append(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join(FLUSH_S * 4)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            lines.append(orjson.dumps({"dropped_lines": dropped}, option=orjson.OPT_APPEND_NEWLINE))
        block = memoryview(b"".join(lines))
        try:
            while block:
                block = block[os.write(self._file.fileno(), block) :]
            if self._path != STDERR and self._file.seek(0, os.SEEK_END) > FILE_BYTES:
                self._rotate()
        except OSError:
            return  # a full disk, or nobody reads: requests are worth more than their log

    def _rotate(self) -> None:
        for number in range(OLD_FILES - 1, 0, -1):
            older = _numbered(self._path, number)
            if older.exists():
                older.replace(_numbered(self._path, number + 1))
        self._path.replace(_numbered(self._path, 1))
        self._file.close()
        self._file = _opened(self._path)


def _opened(path: Path) -> BinaryIO:
    if path == STDERR:
        return sys.stderr.buffer
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(handle, "ab", buffering=0)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
