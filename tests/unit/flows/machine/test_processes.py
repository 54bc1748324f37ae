import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from flows.machine import processes
from flows.machine.processes import (
    everyone,
    family,
    find,
    is_alive,
    send,
    wait_gone,
    wait_until,
)

MARK = "HEADRACE_HOME=/of/this/test"
SPAWNER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def leader() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of its own session, and the pid of the child it spawned."""
    env = dict(os.environ, HEADRACE_HOME="/of/this/test")
    with subprocess.Popen(
        [sys.executable, "-c", SPAWNER],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
        env=env,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_process_is_known_by_pid_and_birth() -> None:
    me = find(os.getpid())
    assert me is not None
    assert is_alive(me.pid, me.birth)
    assert me.parent == os.getppid()
    assert me.memory_bytes > 1_000_000


def test_a_recycled_pid_is_not_the_process_it_was() -> None:
    assert not is_alive(os.getpid(), "another birth")


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_until(lambda: find(process.pid) is None, seconds=60)
    process.wait()


def test_a_birth_survives_exec() -> None:
    then = "print('anew', flush=True); input()"
    code = f"import os, sys; input(); os.execv(sys.executable, [sys.executable, '-c', {then!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        before = find(process.pid)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"anew\n"
        assert before is not None
        assert is_alive(process.pid, before.birth)
        process.kill()


def test_two_processes_differ_in_birth_or_pid(leader: tuple[subprocess.Popen[str], int]) -> None:
    found = {(p.pid, p.birth) for p in everyone()}
    assert {pid for pid, _ in found} >= {leader[0].pid, leader[1]}


def test_a_family_is_leader_and_children(leader: tuple[subprocess.Popen[str], int]) -> None:
    process, child = leader
    found = find(process.pid)
    assert found is not None
    assert {p.pid for p in family(found.pid, found.birth, mark=MARK)} == {process.pid, child}


def test_orphans_of_a_dead_leader_are_still_its_family(
    leader: tuple[subprocess.Popen[str], int],
) -> None:
    process, child = leader
    found = find(process.pid)
    assert found is not None
    process.kill()
    process.wait()
    assert {p.pid for p in family(found.pid, found.birth, mark=MARK)} == {child}


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc shows another's environment")
def test_an_orphan_amid_its_exec_is_not_taken_for_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    environ = tmp_path / "7" / "environ"
    environ.parent.mkdir()
    environ.touch()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "environ").touch()
    later = threading.Timer(0.1, environ.write_bytes, [f"A=1\0{MARK}\0".encode()])
    later.start()
    assert processes._carries(7, MARK)
    later.join()


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc shows another's environment")
def test_orphans_without_our_mark_are_strangers(leader: tuple[subprocess.Popen[str], int]) -> None:
    process, _ = leader
    found = find(process.pid)
    assert found is not None
    process.kill()
    process.wait()
    assert family(found.pid, found.birth, mark="HEADRACE_HOME=/somewhere/else") == []


def test_a_recycled_leader_has_no_family_of_ours(leader: tuple[subprocess.Popen[str], int]) -> None:
    assert family(leader[0].pid, "the birth of the one before", mark=MARK) == []


def test_a_signal_to_a_recycled_pid_is_not_sent(leader: tuple[subprocess.Popen[str], int]) -> None:
    found = find(leader[1])
    assert found is not None
    send(signal.SIGKILL, [replace(found, birth="another birth")])
    assert wait_gone([found], seconds=0.3) == [found]
    send(signal.SIGKILL, [found])
    assert wait_gone([found], seconds=60) == []


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system without /proc, as far as the module can see."""
    monkeypatch.setattr(processes, "PROC", tmp_path)


@pytest.mark.usefixtures("no_proc")
def test_psutil_finds_the_same_family_where_there_is_no_proc(
    leader: tuple[subprocess.Popen[str], int],
) -> None:
    process, child = leader
    found = find(process.pid)
    assert found is not None
    assert is_alive(found.pid, found.birth)
    assert found.parent == os.getpid()
    assert found.memory_bytes > 1_000_000
    assert {p.pid for p in family(found.pid, found.birth, mark=MARK)} == {process.pid, child}
    assert family(found.pid, "another birth", mark=MARK) == []
    process.kill()
    assert wait_until(lambda: find(process.pid) is None, seconds=60)
    process.wait()
    assert find(process.pid) is None
    # Of the group that is left, only what carries the mark is ours.
    assert {p.pid for p in family(found.pid, found.birth, mark=MARK)} == {child}
    assert family(found.pid, found.birth, mark="HEADRACE_HOME=/somewhere/else") == []


@pytest.mark.usefixtures("no_proc")
def test_a_birth_without_proc_is_written_as_ps_wrote_it() -> None:
    me = find(os.getpid())
    assert me is not None
    # Records of earlier versions were made from `ps -o lstart`.
    assert time.ctime(time.mktime(time.strptime(me.birth, "%a %b %d %H:%M:%S %Y"))) == me.birth
