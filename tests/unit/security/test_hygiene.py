"""What must stand nowhere in the code that runs, whoever writes it: the whole tree is read."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("flows", "blocks", "storage", "security", "examples")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))

# Modules and functions that run what they read.
LOADERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile"}
METHODS = {"read_pickle", "to_pickle", "unsafe_load", "full_load"}


def offences(source: str) -> Iterator[str]:
    """What a source does that no code here may do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            yield "assert"
        elif isinstance(node, ast.Import):
            yield from LOADERS & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from LOADERS & {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Call):
            yield from _offending_call(node)


def _offending_call(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name):
        yield from BUILTINS & {node.func.id}
    elif isinstance(node.func, ast.Attribute):
        yield from METHODS & {node.func.attr}
    yield from {"allow_pickle"} & {keyword.arg or "" for keyword in node.keywords}


def test_no_source_asserts_unpickles_or_evaluates() -> None:
    found = {str(p.relative_to(ROOT)): list(offences(p.read_text())) for p in SOURCES}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("def f():\n    assert x", "assert"),
        ("eval('1')", "eval"),
        ("pandas.read_pickle('x')", "read_pickle"),
        ("numpy.load(x, allow_pickle=True)", "allow_pickle"),
    ],
)
def test_the_reader_sees_each_kind_of_offence(source: str, offence: str) -> None:
    assert list(offences(source)) == [offence]


@pytest.mark.parametrize("source", ["file", "env"])
def test_no_core_file_holds_a_key_from_any_source(home: Any, source: str) -> None:
    bundle = "".join(p.read_text() for p in sorted((home.folder / "trainer").glob("*.pem")))
    where = f"file:{home.folder}" if source == "file" else "env:TRAINER"
    code = (
        "import os, resource, sys\n"
        "from security.keys.sources import KeyReader\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "KeyReader(environment=os.environ).read_signer(sys.argv[1], 'trainer')\n"
        "import ctypes\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, where],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "TRAINER": bundle},
    )
    assert done.stdout == "(0, 0) 0\n"
    assert "PRIVATE" not in done.stdout + done.stderr


def test_a_key_that_fails_to_load_leaves_no_secret_in_the_traceback(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = (home.folder / "trainer" / "ed25519.pem").read_text()
    code = (
        "import os\n"
        "from security.keys.sources import KeyReader\n"
        "from flows.keys.ceremonies import CeremonyRequest\n"
        "print(CeremonyRequest('trainer', 'why', passphrase='very-secret'))\n"
        "KeyReader(environment=os.environ).read_signer('env:HALF', 'trainer')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "HALF": pem},
    )
    assert done.returncode == 1
    assert "BadKey" in done.stderr
    assert pem.splitlines()[1] not in done.stdout + done.stderr
    assert "very-secret" not in done.stdout + done.stderr
