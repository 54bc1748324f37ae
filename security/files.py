"""Opening, listing and publishing files so that links, devices and half-written output cannot pass.

A name is judged before anything is opened; what is opened must be a regular file with one name.
"""

import ctypes
import fcntl
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from security.errors import Untrusted

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NEXT = ".next"
_DEVICES = r"(?!(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$))"
# Lower case ASCII without separators: no twins by case, Unicode form or bidi mark, no traversal.
FILE_NAME = _DEVICES + r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?"


def check_name(name: str) -> str:
    """`name` itself, if it may name a payload file.

    Raises: Untrusted for separators, `..`, NUL, upper case, non-ASCII and device names.
    """
    if not re.fullmatch(FILE_NAME, name):
        raise Untrusted(
            f"{name[:60]!r} is not a plain lower-case file name", code="trust.malformed"
        )
    return name


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading that is neither a link (of either kind) nor a device.

    Raises: Untrusted if it is missing or is anything but a regular file with a single name.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Untrusted(f"{path.name} is missing, or is a link", code="trust.unreadable") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(handle)
        raise Untrusted(
            f"{path.name} is not a regular file with a single name", code="trust.unreadable"
        )
    return os.fdopen(handle, "rb")


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """The bytes of a small regular file, read once.

    Raises: Untrusted if it is not a regular file or is larger than `max_bytes`.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Untrusted(f"{path.name} is larger than {max_bytes} bytes", code="trust.too_large")
    return data


def list_names(folder: Path) -> set[str]:
    """Every name in `folder`, dot-files included.

    Raises: Untrusted if it is not a real folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise Untrusted(f"{folder.name} is not a folder", code="trust.unreadable")
    return {entry.name for entry in folder.iterdir()}


@contextmanager
def publish_folder(out: Path) -> Iterator[Path]:
    """A private (0700) folder that becomes `out` when the block ends well, and vanishes otherwise.

    Raises: FileExistsError if `out` already holds something.
    """
    if out.is_symlink() or (out.exists() and any(out.iterdir())):
        raise FileExistsError(f"{out} already exists")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def change_folder(folder: Path) -> Iterator[Path]:
    """A private copy of `folder` to change; it takes the folder's place when the block ends well.

    Whoever looks sees all of the old folder or all of the new one, also after a power cut. One
    change at a time: who comes second waits, and then copies what the first one left. What a
    killed change left behind, private keys among it, is removed by the next one.
    Raises: OSError where the file system cannot exchange two folders.
    """
    with _alone_in(folder.parent):
        for left in folder.parent.glob(f".{folder.name}.*{_NEXT}"):
            shutil.rmtree(left)
        prefix = f".{folder.name}."
        changed = Path(tempfile.mkdtemp(prefix=prefix, suffix=_NEXT, dir=folder.parent))
        try:
            _copy_private(folder, changed)
            yield changed
            _sync_tree(changed)
            _exchange(changed, folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(changed, ignore_errors=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back from a process that dies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def create_private(path: Path) -> io.BufferedWriter:
    """A new file that only its owner can read (0600); refuses to overwrite."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old bytes or the new ones, durably."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy_private(folder: Path, into: Path) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            (into / entry.name).mkdir(mode=0o700)
            _copy_private(entry, into / entry.name)
        else:
            with open_regular(entry) as source, create_private(into / entry.name) as target:
                shutil.copyfileobj(source, target)
            shutil.copymode(entry, into / entry.name)


def _sync_tree(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _sync_tree(entry)
        else:
            with entry.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names at once: renameat2 with RENAME_EXCHANGE, which Python does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))
