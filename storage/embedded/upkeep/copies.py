"""Copies of a lake's parts between it and a backup, each durable and read back."""

import errno
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

from storage.embedded.bytes.blobs import blob_path, find_blob_problem
from storage.embedded.bytes.erasure import is_erased, mark_erased
from storage.embedded.disk import make_durable_folder, sync_folder
from storage.embedded.sqlite import connect
from storage.embedded.upkeep.check import Tell
from storage.embedded.upkeep.reach import Walk, list_all_commits, scan_staged_entries
from storage.errors import Damaged

PROGRESS_BLOBS = 10_000
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES)


def copy_database(source: Path, target: Path) -> None:
    """A database as it is at one moment, durable and without a log beside it."""
    if not source.exists():
        return
    made = target.with_name(f"{target.name}.copy")
    made.unlink(missing_ok=True)
    with closing(connect(source)) as rows:
        rows.execute("VACUUM INTO ?", (str(made),))
    made.chmod(0o600)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)
    sync_folder(target.parent)


def find_wanted(graph: Path) -> tuple[int, dict[bytes, int]]:
    """How many commits a graph has, and every object it names. Raises: Damaged."""
    sizes: dict[bytes, int] = {}
    with closing(connect(graph)) as rows:
        walk = Walk(rows)
        count = 0
        for _, commit in walk.commits(list_all_commits(rows)):
            count += 1
            sizes.update((bytes.fromhex(v.digest), v.size) for _, v in walk.items(commit.tree))
        sizes.update((bytes.fromhex(v.digest), v.size) for _, _, v in scan_staged_entries(rows))
    return count, sizes


def place_all(
    source: Path, target: Path, sizes: dict[bytes, int], *, copy: bool, tell: Tell
) -> tuple[int, bool]:
    """Bring over the blobs that are not there; how many, and whether they were linked.

    What was erased from the source is erased from the target.
    """
    added, linked = 0, not copy
    touched = {target / "blobs"}
    for number, (digest, size) in enumerate(sizes.items(), start=1):
        name = digest.hex()
        there = blob_path(target, name)
        if is_erased(source, name) and not blob_path(source, name).exists():
            mark_erased(target, name)
            there.unlink(missing_ok=True)
        elif find_blob_problem(there, name, size, read=False):
            linked = _place(blob_path(source, name), there, name, size, link=linked) and linked
            added += 1
        touched.add(there.parent)
        if number % PROGRESS_BLOBS == 0:
            tell(f"{number} of {len(sizes)} objects")
    for folder in touched:
        make_durable_folder(folder)
        sync_folder(folder)
    return added, linked


def _place(source: Path, target: Path, digest: str, size: int, *, link: bool) -> bool:
    """Link or copy one blob, then read it; whether it was linked. Raises: Damaged."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f"{target.name}.copy")
    made.unlink(missing_ok=True)
    if problem := find_blob_problem(source, digest, size, read=False):
        raise _describe_damage(source, digest, problem)
    is_linked = link and _link(source, made)
    if not is_linked:
        _copy(source, made)
    if problem := find_blob_problem(made, digest, size):
        made.unlink(missing_ok=True)
        raise _describe_damage(source, digest, problem)
    made.replace(target)
    return is_linked


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _CANNOT_LINK:
            return False
        raise
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _describe_damage(source: Path, digest: str, problem: str) -> Damaged:
    return Damaged(
        f"the object {digest} in {source.parents[2]} {problem}",
        remedy="`headrace lake check` lists the paths and commits that have it.",
    )


def write_json(path: Path, value: object) -> None:
    """Replace a small file in one step."""
    made = path.with_name(f"{path.name}.new")
    with made.open("w") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    sync_folder(path.parent)
