"""What a line of the access log costs, ours against the standard library's logging.

`python bench/access_log.py` writes as many lines as the log holds, a handful of times each way,
and prints the processor time a line takes, the writing thread's included. Less the lines' own
fields, which both are given. See docs/decisions/0027-libraries-in-place-of-our-own.md.
"""

import logging
import logging.handlers
import queue
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from storage.http.access_log import FILE_BYTES, MOST_LINES, OLD_FILES, AccessLog

ROUNDS = 5
Writer = tuple[Callable[..., None], Callable[[], None]]


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(record.msg).decode()


class Unformatted(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


def write_nothing(_: Path) -> Writer:
    return (lambda **_: None), (lambda: None)


def write_ours(path: Path) -> Writer:
    log = AccessLog(path)
    return log.add, log.close


def write_by_logging(path: Path) -> Writer:
    lines: queue.Queue[Any] = queue.Queue(MOST_LINES)
    file = logging.handlers.RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES)
    file.setFormatter(JsonLines())
    logger = logging.Logger("access", logging.INFO)
    logger.addHandler(Unformatted(lines))
    listener = logging.handlers.QueueListener(lines, file)
    listener.start()
    return (lambda **fields: logger.info(fields)), listener.stop


def measure_us(make: Callable[[Path], Writer]) -> float:
    """Processor time of all threads for one line."""
    with tempfile.TemporaryDirectory() as folder:
        add, close = make(Path(folder) / "access.jsonl")
        begun = time.process_time()
        for number in range(MOST_LINES - 1):
            add(
                at=datetime.now(UTC),
                request_id=f"{number:016x}",
                method="GET",
                path="/api/v1/repositories/flights/refs/main/objects",
                operation="GET /repositories/{repository}/refs/{ref}/objects",
                status=200,
                ms=1.234,
                received=0,
                sent=12345,
                client="127.0.0.1",
                user="admin",
                key="AKIAIOSFODNN7EXAMPLE",
            )
        close()
        return (time.process_time() - begun) / MOST_LINES * 1e6


def main() -> None:
    fields = median(measure_us(write_nothing) for _ in range(ROUNDS))
    for name, make in (("ours", write_ours), ("logging", write_by_logging)):
        took = median(measure_us(make) for _ in range(ROUNDS))
        print(f"{name:8} {took - fields:5.1f} us a line")


if __name__ == "__main__":
    main()
