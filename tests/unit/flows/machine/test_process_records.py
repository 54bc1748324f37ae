import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.machine.process_records import ProcessRecord, ProcessRecords

RECORD = ProcessRecord(
    name="lake",
    pid=1,
    birth="b",
    since="2026-01-01T00:00:00+00:00",
    address="http://127.0.0.1:1",
    fingerprint="f",
    log_start=0,
    orphans=[(2, "c")],
)
HOLDER = """
import sys, time
from pathlib import Path
from flows.machine.process_records import ProcessRecords
with ProcessRecords(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_record_reads_back_as_written(tmp_path: Path) -> None:
    records = ProcessRecords(tmp_path)
    records.write(RECORD)
    assert records.read("lake") == RECORD
    records.remove("lake")
    records.remove("lake")
    assert records.read("lake") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"name": "lake"}', "\x00"])
def test_an_unreadable_record_counts_as_none(tmp_path: Path, text: str) -> None:
    records = ProcessRecords(tmp_path)
    records.write(RECORD)
    (tmp_path / "run" / "lake.json").write_text(text)
    assert records.read("lake") is None


def test_a_second_holder_waits_and_is_told_who_blocks(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Misconfigured, match="another headrace up or down"),
            ProcessRecords(tmp_path).lock(seconds=0),
        ):
            pytest.fail("two hold the lock")
        holder.kill()
    # A killed holder leaves no lock behind.
    with ProcessRecords(tmp_path).lock(seconds=60):
        pass
