"""The access log of an HTTP server: one JSON line a request.

Lines are written twice a second by a thread of their own, so that a slow disk or a full pipe
delays no request. A burst that the thread cannot follow drops the oldest lines. How many lines
were dropped, or could not be written, is said in a line of its own (`dropped_lines`).
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
    """Writes to a file, or with `STDERR` as its path to standard error.

    A file that grew beyond `file_bytes` is put aside; `OLD_FILES` older ones stay beside it.
    Raises: OSError if the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        most_lines: int = MOST_LINES,
        file_bytes: int = FILE_BYTES,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._path, self._file = path, _open(path)
        self._file_bytes, self._flush_s = file_bytes, flush_s
        self._lines: deque[bytes] = deque(maxlen=most_lines)
        self._dropped = self._unwritten = 0
        self._is_torn = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, **fields: object) -> None:
        """Take one line."""
        if len(self._lines) == self._lines.maxlen:
            self._dropped += 1
        self._lines.append(_encode(fields))

    def close(self) -> None:
        """Write what is left, unless nobody reads it."""
        self._stop.set()
        self._thread.join(FLUSH_S * 4)

    def _run(self) -> None:
        while not self._stop.wait(self._flush_s):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if dropped := self._dropped + self._unwritten:
            self._dropped = self._unwritten = 0
            lines.append(_encode({"dropped_lines": dropped}))
        try:
            self._write(b"".join(lines))
            if self._path != STDERR and self._file.seek(0, os.SEEK_END) > self._file_bytes:
                self._rotate()
        except OSError:
            return  # a full disk, or nobody reads: requests are worth more than their log

    def _write(self, block: bytes) -> None:
        rest = memoryview(b"\n" + block if self._is_torn and block else block)
        try:
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
                self._is_torn = bool(rest)
        except OSError:
            self._unwritten += bytes(rest).count(b"\n")
            raise

    def _rotate(self) -> None:
        # Missing where an earlier attempt came no further than this.
        if self._path.exists():
            for number in range(OLD_FILES - 1, 0, -1):
                older = _number(self._path, number)
                if older.exists():
                    older.replace(_number(self._path, number + 1))
            self._path.replace(_number(self._path, 1))
        full, self._file = self._file, _open(self._path)
        full.close()


def _encode(fields: dict[str, object]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _open(path: Path) -> BinaryIO:
    if path == STDERR:
        return sys.stderr.buffer
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(handle, "ab", buffering=0)


def _number(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
