import os
import threading
from pathlib import Path

import pytest

from flows.machine.home_files import quote_end, read_or_create, write_whole


def test_what_is_created_is_for_its_owner_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        read_or_create(tmp_path / "new" / "secret", "s")
        write_whole(tmp_path / "new" / "record", "r")
    finally:
        os.umask(previous)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()}
    assert modes == {"secret": 0o600, "record": 0o600}


def test_the_first_writer_of_a_secret_wins(tmp_path: Path) -> None:
    assert read_or_create(tmp_path / "secret", "first") == "first"
    assert read_or_create(tmp_path / "secret", "second") == "first"


def test_an_interrupted_write_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "record", "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "record", "new")
    assert (tmp_path / "record").read_text() == "old"


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    path, seen, done = tmp_path / "record", set(), threading.Event()
    texts = ["a" * 50_000, "b" * 70_000]
    write_whole(path, texts[0])

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        write_whole(path, texts[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(texts)


TRACEBACK = """starting
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    run()
OSError: disk full

"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (TRACEBACK, "OSError: disk full"),
        ("the folder is not writable\nchmod 700 it\n", "the folder is not writable; chmod 700 it"),
        ("headrace: no key\n  hint: make one\n", "headrace: no key"),
        ("    only indented\n", ""),
        ("a\nb\nc\n", "b; c"),
        ("x" * 9_000 + "\nlast\n", "x" * 3_994 + "; last"),
    ],
)
def test_a_log_is_quoted_by_what_it_ends_with(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log").write_text(text)
    assert quote_end(tmp_path / "log") == words


def test_what_an_earlier_start_wrote_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an old problem\n")
    assert quote_end(tmp_path / "log", after=15) == ""


def test_no_log_has_no_words(tmp_path: Path) -> None:
    assert quote_end(tmp_path / "log") == ""
