"""What is written where, and what happens to lines that cannot be."""

import errno
import json
import os
import threading

import pytest

from storage.http.access_log import STDERR, AccessLog

NEVER_S = 3600.0


def read_lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_line_is_json_in_the_order_of_its_fields(tmp_path):
    log = AccessLog(tmp_path / "new" / "access.jsonl")
    log.add(method="GET", status=200, ms=1.5, user=None, path="/ö\n")
    log.close()
    written = (tmp_path / "new" / "access.jsonl").read_bytes()
    text = '{"method":"GET","status":200,"ms":1.5,"user":null,"path":"/ö\\n"}\n'
    assert written == text.encode()


def test_nobody_else_may_read_the_file(tmp_path):
    AccessLog(tmp_path / "log").close()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_lines_of_an_earlier_run_stay(tmp_path):
    for number in range(2):
        log = AccessLog(tmp_path / "log")
        log.add(number=number)
        log.close()
    assert read_lines(tmp_path / "log") == [{"number": 0}, {"number": 1}]


def test_a_burst_drops_the_oldest_lines_and_says_how_many(tmp_path):
    log = AccessLog(tmp_path / "log", most_lines=3, flush_s=NEVER_S)
    for number in range(8):
        log.add(number=number)
    log.close()
    numbers = [{"number": number} for number in (5, 6, 7)]
    assert read_lines(tmp_path / "log") == [*numbers, {"dropped_lines": 5}]


def test_a_long_file_is_put_aside_and_the_oldest_goes(tmp_path):
    for number in range(6):
        log = AccessLog(tmp_path / "log", file_bytes=10)
        log.add(number=number)
        log.close()
    shown = {path.name: read_lines(path) for path in tmp_path.iterdir()}
    assert shown == {
        "log": [],
        "log.1": [{"number": 5}],
        "log.2": [{"number": 4}],
        "log.3": [{"number": 3}],
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_what_a_full_disk_did_not_take_is_counted_and_said_later(tmp_path, monkeypatch):
    log, write = AccessLog(tmp_path / "log", flush_s=0.001), os.write
    is_full, tried = threading.Event(), threading.Event()

    def write_some(handle, data):
        if not is_full.is_set():
            return write(handle, data)
        if tried.is_set():
            raise OSError(errno.ENOSPC, "no space left")
        tried.set()
        return write(handle, data[:5])

    monkeypatch.setattr(os, "write", write_some)
    is_full.set()
    log.add(number=1)
    tried.wait(10)
    is_full.clear()
    log.add(number=2)
    log.close()
    torn, *rest = (tmp_path / "log").read_bytes().splitlines()
    found = [json.loads(line) for line in rest]
    # The disk may have had room again before the second attempt to write the rest of the line.
    assert (torn, found) in [
        (b'{"num', [{"number": 2}, {"dropped_lines": 1}]),
        (b'{"number":1}', [{"number": 2}]),
    ]


def test_a_file_that_cannot_be_rotated_is_written_on(tmp_path):
    log = AccessLog(tmp_path / "log", file_bytes=10, flush_s=NEVER_S)
    for name in ("log.2", "log.3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in the way").touch()
    log.add(number=1)
    log.close()
    assert read_lines(tmp_path / "log") == [{"number": 1}]


def test_a_pipe_that_nobody_reads_delays_nothing(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        log = AccessLog(STDERR, flush_s=0.001)
        for number in range(20_000):
            log.add(number=number)
        os.close(reader)
        log.add(number=-1)
        log.close()
        monkeypatch.undo()


def test_a_path_that_cannot_be_written_is_an_error_at_once(tmp_path):
    with pytest.raises(OSError, match="Is a directory"):
        AccessLog(tmp_path)
