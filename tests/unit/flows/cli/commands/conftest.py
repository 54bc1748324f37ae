"""A project folder without a lake, and the command line run in it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli.main import assemble

Run = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("HEADRACE_", "LAKEFS_", "LAKECTL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    """Run a command; what it raises is raised here."""

    def call(*words: str) -> Result:
        done = CliRunner().invoke(assemble(), words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return call
