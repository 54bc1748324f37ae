from pathlib import Path

import pytest

from flows.machine.logs import last_words

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
    assert last_words(tmp_path / "log") == words


def test_what_an_earlier_start_wrote_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an old problem\n")
    assert last_words(tmp_path / "log", after=15) == ""


def test_no_log_has_no_words(tmp_path: Path) -> None:
    assert last_words(tmp_path / "log") == ""
