"""Processes by identity: a pid and its birth, so that a recycled pid is never taken for ours.

Where there is a /proc, it is read here: a birth is written down and compared days later, and
psutil's `create_time` moves with the system's clock there. Elsewhere psutil reads them.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.05
EXEC_S = 1.0


@dataclass(frozen=True)
class Process:
    """A live process as the system lists it; `birth` differs for each user of a pid."""

    pid: int
    parent: int
    group: int
    birth: str
    memory_bytes: int


def find(pid: int) -> Process | None:
    """The live process with this id; None if there is none or only its zombie is left."""
    if PROC.joinpath("self/stat").exists():
        return _from_proc(pid)
    return _from_psutil(pid)


def is_alive(pid: int, birth: str) -> bool:
    """Whether this very process still runs."""
    found = find(pid)
    return found is not None and found.birth == birth


def everyone() -> list[Process]:
    """Every live process that can be seen."""
    if not PROC.joinpath("self/stat").exists():
        import psutil

        return [found for pid in psutil.pids() if (found := _from_psutil(pid))]
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [found for pid in pids if (found := _from_proc(pid))]


def family(pid: int, birth: str, *, mark: str) -> list[Process]:
    """The process, its descendants, and what it left in its process group.

    When the leader is gone, only members whose environment holds `mark` count; when its pid now
    belongs to another process, the group is that process's and the family is empty.
    """
    alive = everyone()
    leader = next((p for p in alive if p.pid == pid), None)
    if leader is None:
        return [p for p in alive if p.group == pid and _carries(p.pid, mark)]
    if leader.birth != birth:
        return []
    group = [p for p in alive if p.group == pid]
    return list({p.pid: p for p in (leader, *group, *_descendants(pid, alive))}.values())


def send(number: signal.Signals, processes: Iterable[Process]) -> None:
    """Signal those of `processes` that still live."""
    for process in processes:
        if is_alive(process.pid, process.birth):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def wait_gone(processes: Iterable[Process], *, seconds: float) -> list[Process]:
    """Those of `processes` that still live after `seconds`, or as soon as none does."""
    left = list(processes)

    def none_left() -> bool:
        left[:] = [p for p in left if is_alive(p.pid, p.birth)]
        return not left

    wait_until(none_left, seconds=seconds)
    return left


def wait_until(true: Callable[[], bool], *, seconds: float, poll_s: float = POLL_S) -> bool:
    """Ask `true` until it is so or the time is up."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def _descendants(pid: int, alive: list[Process]) -> list[Process]:
    children = [p for p in alive if p.parent == pid and p.pid != pid]
    return children + [d for child in children for d in _descendants(child.pid, alive)]


def _carries(pid: int, mark: str) -> bool:
    if not PROC.joinpath("self/environ").exists():
        return _carries_by_psutil(pid, mark)
    try:
        return mark.encode() in _read_environment(pid).split(b"\0")
    except PermissionError:
        # A run that loaded a signing key hides its memory from its own user too; what belongs
        # to another user cannot be signalled anyway.
        return True
    except OSError:
        return False


def _read_environment(pid: int) -> bytes:
    """Names and values, each ended by NUL; in the middle of an exec the kernel shows none yet."""
    found = b""

    def is_there() -> bool:
        nonlocal found
        found = PROC.joinpath(str(pid), "environ").read_bytes()
        return bool(found)

    wait_until(is_there, seconds=EXEC_S)
    return found


def _from_proc(pid: int) -> Process | None:
    try:
        # The command's name stands in brackets and may itself hold blanks and brackets.
        text = PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2]
    except OSError:
        return None
    fields = text.split()
    if fields[0] in "ZX":
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        birth=f"{_boot_id(PROC)}:{fields[19]}",
        memory_bytes=int(fields[21]) * page,
    )


@cache
def _boot_id(proc: Path) -> str:
    """Ticks count from the start of the machine, so a birth has to name that start."""
    return proc.joinpath("sys/kernel/random/boot_id").read_text().strip()


def _from_psutil(pid: int) -> Process | None:
    import psutil

    try:
        asked = psutil.Process(pid)
        with asked.oneshot():
            if asked.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            return Process(
                pid=pid,
                parent=asked.ppid(),
                group=os.getpgid(pid),
                birth=time.ctime(asked.create_time()),
                memory_bytes=asked.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None


def _carries_by_psutil(pid: int, mark: str) -> bool:
    import psutil

    name, _, value = mark.partition("=")
    try:
        return bool(psutil.Process(pid).environ().get(name) == value)
    except psutil.AccessDenied:
        return True  # as where /proc refuses
    except (psutil.Error, OSError):
        return False
