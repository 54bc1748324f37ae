"""Locks on a lake's folder between processes: who serves it, and who needs its bytes to stay."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from storage.errors import Unavailable

SERVING = "lock"
COLLECTING = "collection.lock"


def hold_folder(root: Path) -> TextIO:
    """The exclusive right to serve the lake, until it is closed or the process ends.

    Raises: Unavailable if another process has it.
    """
    file = (root / SERVING).open("w")
    if not _try_lock(file, fcntl.LOCK_EX):
        file.close()
        raise Unavailable(
            f"another process is serving {root}",
            remedy="Stop it (`headrace down` does), or choose another folder.",
        )
    return file


def is_served(root: Path) -> bool:
    """Whether a process serves this lake now."""
    if not (root / SERVING).exists():
        return False
    with (root / SERVING).open("w") as file:
        return not _try_lock(file, fcntl.LOCK_EX)


@contextmanager
def keep_bytes(root: Path) -> Iterator[None]:
    """Keep collections out while a check or a backup reads. Raises: Unavailable."""
    with _lock_collection(root, fcntl.LOCK_SH, "a garbage collection is under way in {}"):
        yield


@contextmanager
def claim_bytes(root: Path) -> Iterator[None]:
    """Keep checks, backups and other collections out. Raises: Unavailable."""
    problem = "a check, a backup or another collection is under way in {}"
    with _lock_collection(root, fcntl.LOCK_EX, problem):
        yield


@contextmanager
def _lock_collection(root: Path, kind: int, problem: str) -> Iterator[None]:
    handle = _open_lock_file(root, kind)
    try:
        if not _try_lock(handle, kind):
            raise Unavailable(problem.format(root), remedy="Try again when it is done.")
        yield
    finally:
        os.close(handle)


def _open_lock_file(root: Path, kind: int) -> int:
    """The lock's file; for who only reads what he cannot write, such as a backup, its folder."""
    try:
        return os.open(root / COLLECTING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if kind != fcntl.LOCK_SH or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _try_lock(file: TextIO | int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
