"""Bytes that were erased for good: lakeFS's hard delete, for the lake that lies on this machine.

As with lakeFS's own, commits stay as they are, and reading an object whose bytes are gone answers
410. A mark is left for every erased blob, so that a missing one is told apart from a lost one.
"""

import hashlib
import re
from pathlib import Path

from storage.embedded.bytes.folder_locks import claim_bytes
from storage.embedded.disk import sync_folder

_ADDRESS = re.compile(r"local://(?P<root>/.+)/blobs/(?P<head>[0-9a-f]{2})/(?P<rest>[0-9a-f]{62})")
_MARKS = "erased"


def erase(address: str) -> bool:
    """Erase the bytes at a physical address; false if they are no blob of a lake on this machine.

    Only a file that is named by its own SHA-256 is ever removed, whatever a server claims.
    Raises: Unavailable while a check, a backup or a collection needs the bytes.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return False
    root, digest = Path(found["root"]), found["head"] + found["rest"]
    blob = root / "blobs" / found["head"] / found["rest"]
    if not blob.exists():
        return is_erased(root, digest)
    if not blob.is_file() or blob.is_symlink() or _digest(blob) != digest:
        return False
    with claim_bytes(root):
        mark_erased(root, digest)
        blob.unlink(missing_ok=True)
        sync_folder(blob.parent)
    return True


def is_erased(root: Path, digest: str) -> bool:
    """Whether a blob that is not there was erased on purpose."""
    return (root / _MARKS / digest).exists()


def mark_erased(root: Path, digest: str) -> None:
    """First the mark, then the bytes: a crash in between leaves what can be erased again."""
    folder = root / _MARKS
    folder.mkdir(exist_ok=True)
    (folder / digest).touch()
    sync_folder(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
