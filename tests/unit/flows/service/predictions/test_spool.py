"""Segments on disk: nothing acknowledged is lost, nothing is counted twice, nothing is silent."""

import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from flows.errors import Misconfigured
from flows.service.predictions.delivery import read_segment
from flows.service.predictions.segments import Columns
from flows.service.predictions.spool import Spool, SpoolCounts, SpoolLimits

COLUMNS: Columns = {"name": "String", "x": "Float64", "at": "Moment"}
LINE = b'{"name":"a","x":1.5,"at":1372680000000001}\n'
NEVER = SpoolLimits(idle_s=600, max_age_s=600)


def opened(folder: Path, limits: SpoolLimits = NEVER) -> Spool:
    return Spool(folder, prefix="test", limits=limits)


def test_rows_are_in_a_file_before_append_returns(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(LINE, rows=1, columns=spool.declare(COLUMNS))
    (lines,) = tmp_path.glob("*.ndjson")
    assert lines.read_bytes() == LINE
    assert spool.counts == SpoolCounts(spooled=1, delivered=0, lost=0)


def test_a_segment_keeps_values_exactly_and_has_the_declared_types(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    columns = spool.declare(COLUMNS)
    spool.append(
        LINE + b'{"name":"\\u0000\\n\xc3\xa9","x":5e-324,"at":-1}\n', rows=2, columns=columns
    )
    spool.append(b'{"name":null,"x":null,"at":0}\n', rows=1, columns=columns)
    spool.rotate()
    frame, lost = read_segment(spool.waiting()[0])
    assert lost == 0
    assert frame.schema == {"name": pl.String, "x": pl.Float64, "at": pl.Datetime("us", "UTC")}
    assert frame["name"].to_list() == ["a", "\0\né", None]
    assert frame["x"].to_list() == [1.5, 5e-324, None]
    assert frame["at"].dt.epoch("us").to_list() == [1372680000000001, -1, 0]


def test_what_a_killed_process_spooled_is_found_again_without_its_torn_line(tmp_path: Path) -> None:
    program = f"""
        import os
        from pathlib import Path
        from flows.service.predictions.spool import Spool, SpoolLimits
        spool = Spool(Path({str(tmp_path)!r}), prefix="test", limits=SpoolLimits(idle_s=600))
        columns = spool.declare({dict(COLUMNS)!r})
        for _ in range(7):
            spool.append({LINE!r}, rows=1, columns=columns)
        spool.append({LINE!r} + b'{{"name":"torn', rows=1, columns=columns)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL
    spool = opened(tmp_path)
    assert spool.counts == SpoolCounts(spooled=8, delivered=0, lost=0)
    frame, lost = read_segment(spool.waiting()[0])
    assert (frame.height, lost) == (8, 0)


def test_counts_outlive_the_process_and_add_up(tmp_path: Path) -> None:
    spool = opened(tmp_path, SpoolLimits(max_bytes=len(LINE) * 3, idle_s=600))
    columns = spool.declare(COLUMNS)
    for _ in range(5):
        spool.append(LINE, rows=1, columns=columns)
    assert spool.counts == SpoolCounts(spooled=3, delivered=0, lost=2)
    spool.rotate()
    spool.settle(spool.waiting()[0])
    spool.append(LINE, rows=1, columns=columns)
    spool.close()
    again = opened(tmp_path)
    assert again.counts == SpoolCounts(spooled=1, delivered=3, lost=2)
    assert again.counts.accepted == 6


def test_a_segment_settled_just_before_a_crash_is_not_counted_twice(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(LINE, rows=1, columns=spool.declare(COLUMNS))
    spool.rotate()
    (segment,) = spool.waiting()
    kept = segment.lines.read_bytes()
    spool.settle(segment)
    spool.close()
    segment.lines.write_bytes(kept)
    assert opened(tmp_path).counts == SpoolCounts(spooled=0, delivered=1, lost=0)
    assert not segment.lines.exists()


def test_a_full_disk_loses_rows_by_count_and_never_half_a_line(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    columns = spool.declare(COLUMNS)
    with file_size_limit(len(LINE) * 2 + 10):
        for _ in range(4):
            spool.append(LINE, rows=1, columns=columns)
    spool.append(LINE, rows=1, columns=columns)
    spool.rotate()
    counts = spool.counts
    assert counts.accepted == 5
    assert counts.lost >= 1
    rows = [read_segment(segment) for segment in spool.waiting()]
    assert sum(frame.height for frame, _ in rows) == counts.spooled
    assert sum(lost for _, lost in rows) == 0


def test_a_full_disk_while_settling_counts_nothing_twice(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(LINE, rows=1, columns=spool.declare(COLUMNS))
    spool.rotate()
    (segment,) = spool.waiting()
    with file_size_limit(4), pytest.raises(OSError, match="File too large"):
        spool.settle(segment)
    assert spool.counts == SpoolCounts(spooled=1, delivered=0, lost=0)
    assert spool.waiting() == [segment]
    spool.settle(segment)
    assert spool.counts == SpoolCounts(spooled=0, delivered=1, lost=0)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_rows_whose_sync_failed_are_still_delivered(tmp_path: Path) -> None:
    spool_folder = tmp_path / "spool"
    program = f"""
        from pathlib import Path
        from flows.service.predictions.delivery import read_segment
        from flows.service.predictions.spool import Spool, SpoolLimits
        spool = Spool(Path({str(spool_folder)!r}), prefix="test", limits=SpoolLimits(idle_s=600))
        columns = spool.declare({dict(COLUMNS)!r})
        spool.append({LINE!r}, rows=1, columns=columns)
        spool.rotate()
        (segment,) = spool.waiting()
        print(read_segment(segment)[0].height, spool.counts.spooled)
    """
    # The columns' file and its folder are synced first; the third is the segment.
    failing = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=3"]
    command = ["strace", "-f", "-y", "-o", str(tmp_path / "trace"), *failing, sys.executable, "-c"]
    done = subprocess.run(
        [*command, textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert re.search(r"ndjson>\).*EIO", (tmp_path / "trace").read_text())
    assert done.stdout == "1 1\n", done.stderr


def test_a_segment_closes_when_it_is_full_or_its_columns_change(tmp_path: Path) -> None:
    spool = opened(tmp_path, SpoolLimits(segment_rows=2, idle_s=600))
    columns, others = spool.declare(COLUMNS), spool.declare({"name": "String"})
    for _ in range(3):
        spool.append(LINE, rows=1, columns=columns)
    spool.append(b'{"name":"b"}\n', rows=1, columns=others)
    spool.sync()
    assert [segment.rows for segment in spool.waiting()] == [2, 1]
    assert spool.counts.spooled == 4


def test_a_segment_closes_after_its_last_row_or_at_its_age(tmp_path: Path) -> None:
    spool = opened(tmp_path, SpoolLimits(idle_s=0.0))
    spool.append(LINE, rows=1, columns=spool.declare(COLUMNS))
    spool.sync()
    assert len(spool.waiting()) == 1
    spool.close()
    aged = opened(tmp_path, SpoolLimits(idle_s=600, max_age_s=0.0))
    aged.append(LINE, rows=1, columns=aged.declare(COLUMNS))
    aged.sync()
    assert len(aged.waiting()) == 2


def test_a_damaged_segment_gives_up_its_whole_lines_and_counts_the_rest(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(LINE * 3, rows=3, columns=spool.declare(COLUMNS))
    spool.rotate()
    (segment,) = spool.waiting()
    content = segment.lines.read_bytes()
    segment.lines.write_bytes(content[: len(LINE)] + b"\0" * 10 + content[len(LINE) + 10 :])
    frame, lost = read_segment(segment)
    assert (frame.height, lost) == (2, 1)


def test_one_process_at_a_time_holds_a_spool(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(Misconfigured, match="another prediction service"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """While it lasts no file grows past so many bytes: what a full disk looks like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
