"""What a disk may do to a lake: run full, fail to sync; and names that a power cut leaves."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from storage.embedded.errors import DiskFull, WritesStopped

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
logger = logging.getLogger("storage.embedded")


@dataclass
class Health:
    """Whether this process may still promise durability; one failed sync ends that for good.

    `suspect` is the file that makes the next start check every byte before it serves.
    """

    suspect: Path
    stopped_by: str = ""

    def stop(self, cause: BaseException) -> WritesStopped:
        """Refuse every later write: after a failed sync the kernel may have dropped the pages."""
        if not self.stopped_by:
            self.stopped_by = str(cause)
            logger.error("the lake is read-only from now on: %s", cause)
            with suppress(OSError):
                self.suspect.write_text(f"{cause}\n")
        return self.answer_error()

    def answer_error(self) -> WritesStopped:
        """The error that every write gets from now on."""
        return WritesStopped(
            f"the lake is read-only because the disk failed to sync: {self.stopped_by}",
            remedy="Check the disk, then restart the lake: it checks itself before it serves.",
        )

    def check(self) -> None:
        """Raises: WritesStopped once a sync has failed."""
        if self.stopped_by:
            raise self.answer_error()


def describe_full_disk() -> DiskFull:
    """The 507 that says what happened and what to do."""
    return DiskFull("no space left on the lake's disk", remedy="Free some space and try again.")


@contextmanager
def translate_full_disk() -> Iterator[None]:
    """Turn the operating system's word for a full disk, and SQLite's, into the lake's."""
    try:
        yield
    except apsw.FullError as error:
        raise describe_full_disk() from error
    except OSError as error:
        if error.errno in FULL:
            raise describe_full_disk() from error
        raise


def sync_folder(folder: Path, sync: Callable[[int], None] = os.fsync) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def make_durable_folder(path: Path) -> None:
    """Make a folder, with those above it, whose names a power cut does not take away."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # The nearest always: whoever made it may not have lived to sync it.
    for folder in {path, *missing}:
        sync_folder(folder.parent)
