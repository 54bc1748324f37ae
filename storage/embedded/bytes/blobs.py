"""Bytes on disk, named by their SHA-256. A blob is whole and synced before it has its name."""

import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import BinaryIO

from storage.embedded.bytes.erasure import is_erased
from storage.embedded.bytes.sendfile import FilePart
from storage.embedded.disk import FULL, Health, sync_folder, translate_full_disk
from storage.embedded.errors import Gone
from storage.errors import Damaged

CHUNK_BYTES = 1 << 20
BESIDE_BYTES = 256 << 10
"""From here on MD5 in a thread of its own, beside SHA-256, is worth a thread's switch."""
_hashing = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="lake-md5")
ARRIVING_S = 60
"""Between the naming of a blob and the staging of its entry lies no more than this."""


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that are on disk for good."""

    digest: str
    md5: str
    size: int


class Incoming:
    """A blob being received: write chunks, then `keep` or `discard`."""

    def __init__(self, path: Path, health: Health) -> None:
        self.path, self._health = path, health
        self._sha256, self._md5, self.size = sha256(), md5(usedforsecurity=False), 0
        self._beside: Future[None] = Future()
        self._beside.set_result(None)
        with translate_full_disk():
            self._file: BinaryIO = path.open("xb")

    def write(self, chunk: bytes | bytearray) -> None:
        """Append; the chunk may not change afterwards, for it is still being hashed.

        Raises: DiskFull, and then nothing of it stays on the full disk.
        """
        self._hash_md5(chunk)
        try:
            with translate_full_disk():
                self._file.write(chunk)
        except BaseException:
            self.discard()
            raise
        self._sha256.update(chunk)
        self.size += len(chunk)

    def _hash_md5(self, chunk: bytes | bytearray) -> None:
        self._beside.result()
        if len(chunk) >= BESIDE_BYTES:
            self._beside = _hashing.submit(self._md5.update, chunk)
        else:
            self._md5.update(chunk)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, in hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """MD5 of what was written so far, in hex."""
        self._beside.result()
        return self._md5.hexdigest()

    def sync(self) -> Written:
        """Make the bytes durable, though not yet their name. Raises: DiskFull, WritesStopped."""
        with translate_full_disk(), self._file:
            self._file.flush()
            self._sync(self._file.fileno())
        return Written(self.digest, self.md5, self.size)

    def move(self, target: Path) -> None:
        """Give the synced bytes their name; `sync_folder` makes it durable."""
        with translate_full_disk():
            self.path.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """Make the name durable. Raises: DiskFull, WritesStopped."""
        with translate_full_disk():
            sync_folder(folder, self._sync)

    def discard(self) -> None:
        """Forget it."""
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _sync(self, handle: int) -> None:
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno in FULL:
                raise
            raise self._health.stop(error) from error


def compute_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    computed = sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            computed.update(chunk)
    return computed.hexdigest()


def find_blob_problem(path: Path, digest: str, size: int, *, read: bool = True) -> str:
    """What is wrong with a blob; empty if nothing is."""
    try:
        found = path.stat().st_size
        if found != size:
            return f"has {found} bytes, {size} were written"
        is_other = read and compute_digest(path) != digest
        return "its bytes are not those that were written" if is_other else ""
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def blob_path(root: Path, digest: str) -> Path:
    """Where a lake, or a backup of one, keeps a blob."""
    return root / "blobs" / digest[:2] / digest[2:]


def find_lake_blob_problem(root: Path, digest: str, size: int, *, read: bool = True) -> str:
    """The same for a blob of the lake, or backup, under `root`; one erased on purpose is fine."""
    path = blob_path(root, digest)
    problem = find_blob_problem(path, digest, size, read=read)
    return "" if problem and is_erased(root, digest) and not path.exists() else problem


class Blobs:
    """The folder of blobs, fanned out over 256 subfolders made when it is opened."""

    def __init__(self, root: Path, health: Health) -> None:
        self._root, self._health = root / "blobs", health
        self._lake = root
        self._placing = threading.Lock()
        self._condemned: set[bytes] = set()
        self._arrived: dict[bytes, float] = {}
        self._incoming, self.parts = root / "incoming", root / "parts"
        for name in ("blobs", "incoming", "parts"):
            (root / name).mkdir(exist_ok=True)
        for left_over in self._incoming.iterdir():
            left_over.unlink()
        for number in range(256):
            (self._root / f"{number:02x}").mkdir(exist_ok=True)
        for folder in (self._root, root):
            sync_folder(folder)

    def receive(self) -> Incoming:
        """A new blob to write into."""
        self._health.check()
        return Incoming(self._incoming / secrets.token_hex(16), self._health)

    def keep(self, incoming: Incoming, part: str = "") -> Written:
        """Make a received blob durable, under its digest or as a named part of an upload."""
        written = incoming.sync()
        target = self.parts / part if part else self.path(written.digest)
        with self._placing:
            if not part:
                self._note_arrival(bytes.fromhex(written.digest))
            incoming.move(target)
        incoming.sync_folder(target.parent)
        return written

    def list_stored(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every blob that is there, with what the file system knows of it."""
        for folder in sorted(self._root.iterdir()):
            for file in os.scandir(folder):
                yield bytes.fromhex(folder.name + file.name), file.stat()

    def condemn(self, digests: Iterable[bytes]) -> None:
        """Prepare to remove these; one that arrives again from now on is pardoned."""
        with self._placing:
            self._condemned = set(digests)

    def pardon(self, digests: Iterable[bytes]) -> None:
        """Do not remove these after all."""
        with self._placing:
            self._condemned.difference_update(digests)

    def list_arriving(self) -> set[bytes]:
        """Those that were kept a moment ago: their entries may not be staged yet."""
        with self._placing:
            since = time.monotonic() - ARRIVING_S
            return {digest for digest, at in self._arrived.items() if at >= since}

    def remove(self, digest: bytes) -> bool:
        """Delete a condemned blob unless it was pardoned; whether it is gone."""
        with self._placing:
            if digest not in self._condemned:
                return False
            self._condemned.discard(digest)
            self.path(digest.hex()).unlink(missing_ok=True)
            return True

    def _note_arrival(self, digest: bytes) -> None:
        now = time.monotonic()
        self._condemned.discard(digest)
        self._arrived.pop(digest, None)
        self._arrived[digest] = now
        while now - next(iter(self._arrived.values())) > ARRIVING_S:
            del self._arrived[next(iter(self._arrived))]

    def path(self, digest: str) -> Path:
        """Where a blob is."""
        return self._root / digest[:2] / digest[2:]

    def read(self, digest: str, size: int, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` up to `stop` in chunks of at most `CHUNK_BYTES`.

        The last chunk of a whole blob is held back until the digest fits.
        Raises: Damaged if the blob is missing, of another length, or of another digest; Gone if
        it was erased.
        """
        with self.open(digest, size) as file:
            for _, chunk in _read_checked(file, digest, size, start, stop):
                yield bytes(chunk)

    def read_parts(
        self, file: BinaryIO, digest: str, size: int, start: int, stop: int
    ) -> Iterator[FilePart]:
        """The same as parts of the opened file, each read before, so that sending it is quick."""
        for at, chunk in _read_checked(file, digest, size, start, stop):
            yield FilePart(file, at, at + len(chunk))

    def open(self, digest: str, size: int) -> BinaryIO:
        """A blob's file. Raises: Damaged if it is missing or of another length, Gone if erased."""
        path = self.path(digest)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            if is_erased(self._lake, digest):
                raise Gone("No data") from error
            raise Damaged(f"blob {digest} is missing", remedy=_RESTORE) from error
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            raise Damaged(f"blob {digest} has another length than was written", remedy=_RESTORE)
        return file


def _read_checked(
    file: BinaryIO, digest: str, size: int, start: int, stop: int
) -> Iterator[tuple[int, memoryview]]:
    """Where each chunk lies and its bytes, which the next one overwrites."""
    checked = sha256() if (start, stop) == (0, size) else None
    buffer = memoryview(bytearray(min(CHUNK_BYTES, stop - start)))
    while start < stop:
        found = os.preadv(file.fileno(), [buffer[: stop - start]], start)
        if checked is not None:
            checked.update(buffer[:found])
        is_last = start + found == stop
        if not found or (is_last and checked and checked.hexdigest() != digest):
            raise Damaged(f"blob {digest} is not what was written", remedy=_RESTORE)
        yield start, buffer[:found]
        start += found


_RESTORE = "Restore the lake's blobs folder from a backup."
