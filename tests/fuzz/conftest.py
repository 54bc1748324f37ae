"""Fuzzing of every parser of untrusted bytes.

A *script* is a short string of bytes that edits a valid specimen: it cuts, repeats and splices
bytes, or walks into a JSON document, through base64 too, and changes a value, a key or a type.
Hypothesis finds and shrinks scripts in the short run; the long run draws them from a numbered
generator, a million in all, in a child whose memory is capped. Of every answer the same is asked:
a value or an error of the documented family, within a number of steps that grows with the input.
"""

import atexit
import base64
import binascii
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "unit" / "security" / "golden-v1"
SCRIPT_BYTES = 40
# Python lines for one input, fixed and for each byte of it: far above any honest parser's need.
STEPS, STEPS_A_BYTE = 60_000, 60
LONG_INPUTS = int(os.environ.get("FUZZ_INPUTS", "1000000"))
MEMORY_BYTES = 512 * 2**20

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**53 - 1, 2**53, 2**63, -(2**63), 10**40, 1.5, 1e308, "", "0",
    "a", "/", "..", "../x", "a" * 300, "\0", "\u202e", "\ud800", "\ufeff", "NaN", "1e400", "-0",
    "0" * 64, "f" * 64, "9999-99-99T99:99:99Z", "0000-00-00T00:00:00Z", "=" * 8, [], {}, [[]],
    [None], {"": ""}, {"a": {"a": {}}}, [0] * 100, "9" * 5000,
]  # fmt: skip
TOKENS = [
    b"", b"\0", b"\n", b"\r\n", b'"', b"\\", b"{", b"[", b"]", b"}", b":", b",", b"-", b"e9", b"0",
    b"9" * 40, b"NaN", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"%00",
    b"%ff", b";", b"=", b"<!DOCTYPE x>", b"<a>", b"</a>", b"&lt;", b"&#0;", b"--", b"/../",
    b"-----BEGIN PRIVATE KEY-----", b"[" * 200, b'{"a":' * 40, b"1E400", b"9" * 5000,
]  # fmt: skip


class Script:
    """The bytes that steer a mutation, read one by one; zeros follow the last."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, below: int) -> int:
        """The next number; two bytes where one cannot reach."""
        value = self._byte() if below <= 256 else self._byte() * 256 + self._byte()
        if below > 2**16:
            value = value * 256 + self._byte()
        return value % max(below, 1)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    @property
    def spent(self) -> bool:
        return self._at >= len(self._data)


def mutated(specimens: tuple[bytes, ...], data: bytes) -> bytes:
    """One of the specimens after the edits that the script `data` names."""
    script = Script(data)
    found = specimens[script.number(len(specimens))]
    for _ in range(1 + script.number(3)):
        found = (_edit_json if script.number(3) else _edit_bytes)(found, script, specimens)
        if script.spent:
            break
    return found


def _edit_bytes(data: bytes, script: Script, specimens: tuple[bytes, ...]) -> bytes:
    kind, at = script.number(7), script.number(len(data) + 1)
    size = script.number(64)
    if kind == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ (1 << script.number(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + TOKENS[script.number(len(TOKENS))] + data[at:]
    if kind == 2:
        return data[:at] + data[at + size :]
    if kind == 3:
        return data[:at] + data[at : at + size] * (2 + script.number(4)) + data[at + size :]
    if kind == 4:
        return data[:at]
    if kind == 5:
        other = specimens[script.number(len(specimens))]
        return data[:at] + other[script.number(len(other) + 1) :]
    return data[:at] + TOKENS[script.number(len(TOKENS))] + data[at + size :]


def _edit_json(data: bytes, script: Script, specimens: tuple[bytes, ...]) -> bytes:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _edit_bytes(data, script, specimens)
    inner = document.get("payload") if isinstance(document, dict) else None
    if isinstance(inner, str) and script.number(4):
        try:
            payload = base64.b64decode(inner)
        except (binascii.Error, ValueError):
            payload = b""
        document["payload"] = base64.b64encode(_edit_json(payload, script, specimens)).decode()
    else:
        document = _edit_value(document, script)
    return _written(document, script)


def _edit_value(value: Any, script: Script) -> Any:
    """Walk down by the script's numbers, and change what is found there."""
    children: list[Any] = []
    if isinstance(value, dict | list):
        children = list(value) if isinstance(value, dict) else list(range(len(value)))[:64]
    if children and script.number(4):
        place = children[script.number(len(children))]
        value[place] = _edit_value(value[place], script)
        return value
    return _replaced(value, script)


def _replaced(value: Any, script: Script) -> Any:
    kind, other = script.number(6), VALUES[script.number(len(VALUES))]
    if isinstance(value, dict) and kind:
        names = list(value)
        name = names[script.number(len(names))] if names else "a"
        if kind == 1:
            value.pop(name, None)
        elif kind == 2:
            value[str(other)[:100]] = value.get(name)
        else:
            value[name] = other
        return value
    if isinstance(value, list) and kind:
        return [value * 2, value[1:], value[::-1], [*value, other], [value]][kind - 1]
    if isinstance(value, str) and kind in (1, 2):
        at = script.number(len(value) + 1)
        return value[:at] + str(other)[:64] + value[at + kind - 1 :]
    if isinstance(value, int) and kind in (1, 2):
        return value + (1 if kind == 1 else -1)
    return other


def _written(document: Any, script: Script) -> bytes:
    """Mostly in canonical form, so that what comes behind the first check is reached."""
    if script.number(8) == 7:
        return json.dumps(document).encode()
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Target:
    """A parser: what it reads when all is well, and with what it may refuse.

    `inputs` is its share of the long run.
    """

    name: str
    read: Callable[[bytes], object]
    specimens: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...]
    inputs: int

    def check_specimens(self) -> None:
        """Each specimen is read: a fuzzer of a parser that refuses everything shows nothing."""
        for specimen in self.specimens:
            self.read(specimen)

    def check(self, data: bytes) -> bool:
        """Whether `data` was read; False if it was refused as it may be."""
        try:
            self.read(data)
        except self.refuses:
            return False
        return True


class TooManySteps(BaseException):
    """A parser worked for longer than its input allows; nothing catches this."""


@contextmanager
def steps_at_most(limit: int) -> Iterator[None]:
    """Count lines of Python, not seconds: the same on a loaded machine."""
    left = limit

    def count(_frame: FrameType, event: str, _given: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            raise TooManySteps(f"more than {limit} lines")
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)


def run_short(target: Target, examples: int = 200) -> None:
    """Hypothesis's scripts, each within its steps."""
    target.check_specimens()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=1, max_size=SCRIPT_BYTES))
    def holds(script: bytes) -> None:
        data = mutated(target.specimens, script)
        with steps_at_most(STEPS + STEPS_A_BYTE * len(data)):
            target.check(data)

    holds()


def run_long(target: Target, inputs: int, seed: int) -> dict[str, Any]:
    """`inputs` numbered scripts; one in 64 within its steps, all of them within the memory."""
    target.check_specimens()
    numbers, read, before = random.Random(f"{seed} {target.name}"), 0, time.perf_counter()
    for number in range(inputs):
        script = numbers.randbytes(1 + number % SCRIPT_BYTES)
        data = mutated(target.specimens, script)
        try:
            if number % 64:
                read += target.check(data)
            else:
                with steps_at_most(STEPS + STEPS_A_BYTE * len(data)):
                    read += target.check(data)
        except BaseException as error:
            raise AssertionError(
                f"{target.name}: {type(error).__name__} after script {script.hex()}"
            ) from error
    return {
        "target": target.name,
        "inputs": inputs,
        "read": read,
        "seconds": round(time.perf_counter() - before, 1),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def run_in_child(file: str, name: str, inputs: int) -> dict[str, Any]:
    """`run_long` in a child that cannot grow past its memory; a crash there is a failure here."""
    done = subprocess.run(
        [sys.executable, __file__, file, name, str(inputs)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if done.returncode:
        raise AssertionError(f"{name}: exit {done.returncode}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["peak MiB"] - found["start MiB"] > MEMORY_BYTES // 2**20:
        raise AssertionError(f"{name} took {found['peak MiB']} MiB")
    return found


class Fuzz:
    """What the tests here use; a fixture, since they cannot import a conftest."""

    Target, GOLDEN = Target, GOLDEN
    short, child = staticmethod(run_short), staticmethod(run_in_child)
    long_inputs = LONG_INPUTS

    @staticmethod
    def folder() -> Path:
        """A folder until this process ends, in memory if the machine can: it is written often."""
        shared = Path("/dev/shm")
        made = tempfile.mkdtemp(prefix="fuzz-", dir=shared if os.access(shared, os.W_OK) else None)
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return Path(made)


@pytest.fixture(scope="session")
def fuzz() -> type[Fuzz]:
    return Fuzz


def _child(file: str, name: str, inputs: int) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("fuzzed", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no such file {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = next(target for target in module.targets(Fuzz) if target.name == name)
    target.check_specimens()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, held + MEMORY_BYTES))
    print(json.dumps({"start MiB": start, **run_long(target, inputs, seed=1)}))


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
