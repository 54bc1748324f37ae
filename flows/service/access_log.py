"""The access log: one JSON line a request on stderr, without any value of its payload."""

import os
import threading
from collections import deque

import orjson

FLUSH_S = 0.5


class AccessLog:
    """Lines are collected and written twice a second by a thread of their own.

    `handle` is a file descriptor. A burst beyond `most` lines drops the oldest ones and says so.
    """

    def __init__(self, handle: int, *, most: int = 100_000) -> None:
        self._handle, self._most = handle, most
        self._lines: deque[bytes] = deque(maxlen=most)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._stop.set()
        self._thread.join(FLUSH_S * 4)

    def add(self, **fields: object) -> None:
        """Take one line."""
        if len(self._lines) == self._most:
            self._dropped += 1
        self._lines.append(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

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
                block = block[os.write(self._handle, block) :]
        except OSError:
            # Nobody reads stderr any more; requests are worth more than their log.
            return
