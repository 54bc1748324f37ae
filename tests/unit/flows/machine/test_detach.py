"""The shim between the supervisor and a service, run as the supervisor runs it."""

import subprocess
import sys

import pytest

from flows.machine import detach
from flows.machine.processes import find, wait_until

PRINT = "import os; print('ran as', os.getpid(), os.getsid(0) == os.getpid())"


def start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", detach.__file__, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_what_runs_has_the_announced_pid_and_a_session_of_its_own() -> None:
    shim = start(sys.executable, "-c", PRINT)
    assert shim.stdout is not None
    pid = int(shim.stdout.readline())
    _, log = shim.communicate(detach.GO)
    # The service's output goes where the shim's errors go: to its log.
    assert log.decode() == f"ran as {pid} True\n"


@pytest.mark.parametrize("answer", [b"", b"x"])
def test_without_the_signal_nothing_runs_and_nothing_is_left(answer: bytes) -> None:
    shim = start(sys.executable, "-c", PRINT)
    assert shim.stdout is not None
    pid = int(shim.stdout.readline())
    assert pid != shim.pid
    _, log = shim.communicate(answer)
    assert log == b""
    assert wait_until(lambda: find(pid) is None, seconds=60)


def test_a_program_that_is_not_there_is_named() -> None:
    shim = start("/no/such/program")
    assert shim.stdout is not None
    shim.stdout.readline()
    _, log = shim.communicate(detach.GO)
    assert log == b"cannot run /no/such/program: No such file or directory\n"
