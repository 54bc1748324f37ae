"""Backups of a lake: made while the lake is written to, listed, and restored.

The graph is copied first, as one snapshot, then the blobs that it names; blobs never change, and
no collection runs meanwhile, so the two fit. A backup holds the graph, the blobs and the keys,
but no uploads in progress. It is complete when its `backup.json` says so, and stays complete
while the next run brings it up to date.
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import apsw

from storage.embedded.bytes.folder_locks import hold_folder, keep_bytes
from storage.embedded.disk import make_durable_folder, sync_folder, translate_full_disk
from storage.embedded.lake import GRAPH
from storage.embedded.sqlite import connect
from storage.embedded.upkeep.check import Tell, open_snapshot
from storage.embedded.upkeep.copies import copy_database, find_wanted, place_all, write_json
from storage.errors import Damaged, NotFound, Refused

MANIFEST = "backup.json"
FORMAT = 1
LISTED = "backups.json"
KEYS = "keys.sqlite"
_STARTED = "backup.started"
_IS_ANOTHER = """
SELECT EXISTS(SELECT 1 FROM saved.commits) AND NOT EXISTS(
  SELECT 1 FROM saved.commits AS theirs JOIN main.commits AS ours
  ON ours.repository = theirs.repository AND ours.id = theirs.id)
"""


@dataclass(frozen=True, slots=True)
class Backup:
    """One finished run: where it is, when its snapshot was taken, what it holds."""

    folder: str
    made_at: str
    """ISO 8601, UTC."""
    commits: int
    objects: int
    octets: int
    new_objects: int
    """How many the run added; the others were there from the run before."""
    linked: bool
    """Whether new objects share their bytes on disk with the lake."""


def back_up(root: Path, folder: Path, *, copy: bool = False, tell: Tell = lambda _: None) -> Backup:
    """Bring `folder` up to date with the lake, which may be served and written to meanwhile.

    On one file system blobs are linked, with `copy` or elsewhere copied; all new ones are read
    back. Raises: NotFound, Refused if the folder holds something else, such as the backup of
    another lake, Damaged naming the object if the lake has lost one, DiskFull, Unavailable.
    """
    with translate_full_disk(), keep_bytes(_require_lake(root)), _claim_target(folder):
        _require_same_lake(root, folder)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        tell("copying the graph")
        graph = _copy_graph(root, folder)
        commits, sizes = find_wanted(graph)
        tell(f"{commits} commits name {len(sizes)} objects")
        new = place_all(root, folder, sizes, copy=copy, tell=tell)
        _copy_keys(root, folder)
        graph.replace(folder / GRAPH)
        counted = (commits, len(sizes), sum(sizes.values()), *new)
        made = Backup(str(folder.absolute()), made_at, *counted)
        write_json(folder / MANIFEST, {"format": FORMAT, **asdict(made)})
        _prune(folder, sizes)
    note_backup(root, made)
    return made


def restore(folder: Path, root: Path, *, tell: Tell = lambda _: None) -> Backup:
    """Fill an empty lake, which nobody serves, from a backup; every byte is read on the way.

    The graph comes into place last: after an interruption the lake is empty; restore it again.
    Raises: NotFound, Refused if the lake is not empty, Damaged naming what the backup lost.
    """
    made = read_backup(folder)
    make_durable_folder(root)
    with translate_full_disk(), closing(hold_folder(root)), keep_bytes(folder):
        _require_empty(root)
        # First, so that a backup into the same folder meanwhile does not change what is restored.
        graph = root / f"{GRAPH}.restored"
        copy_database(folder / GRAPH, graph)
        commits, sizes = find_wanted(graph)
        tell(f"{commits} commits name {len(sizes)} objects")
        place_all(folder, root, sizes, copy=True, tell=tell)
        for name in (GRAPH, f"{GRAPH}-wal", f"{GRAPH}-shm"):
            (root / name).unlink(missing_ok=True)
        sync_folder(root)
        copy_database(folder / KEYS, root / KEYS)
        graph.replace(root / GRAPH)
        sync_folder(root)
    note_backup(root, made)
    return made


def read_backup(folder: Path) -> Backup:
    """What a folder's last finished run says. Raises: NotFound, Damaged."""
    try:
        told = json.loads((folder / MANIFEST).read_text())
        if told.pop("format") != FORMAT:
            raise Refused(f"{folder} is a backup of another format than {FORMAT}")
        return Backup(**{**told, "folder": str(folder.absolute())})
    except FileNotFoundError as error:
        raise NotFound(
            f"{folder} holds no finished backup", remedy="`headrace lake backup` makes one."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{folder / MANIFEST} cannot be read: {error}") from error


def newest_backup(root: Path) -> Backup | None:
    """The latest backup of this lake that is still where it was made."""
    found = []
    for folder in _read_listed(root):
        with suppress(NotFound, Damaged, Refused, OSError):
            found.append(read_backup(Path(folder)))
    return max(found, key=lambda made: made.made_at, default=None)


def _require_lake(root: Path) -> Path:
    if not (root / GRAPH).is_file():
        raise NotFound(f"there is no lake in {root}", remedy="`headrace up` makes one.")
    return root


def _require_empty(root: Path) -> None:
    if not (root / GRAPH).exists():
        return
    with open_snapshot(root) as rows:
        (count,) = next(rows.execute("SELECT count(*) FROM repository"))
    if count:
        raise Refused(
            f"the lake in {root} is not empty: it has {count} repositories",
            remedy=f"Move {root} away first; a restore never writes over data.",
        )


@contextmanager
def _claim_target(folder: Path) -> Iterator[None]:
    """The folder, ours alone. Raises: Refused, Unavailable."""
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is not a folder")
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise Refused(
            f"{folder} holds something that is no backup", remedy="Name an empty or a new folder."
        )
    make_durable_folder(folder)
    (folder / _STARTED).touch()
    with closing(hold_folder(folder)):
        yield
    (folder / _STARTED).unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / _STARTED).exists()


def _require_same_lake(root: Path, folder: Path) -> None:
    """Raises: Refused where a backup would be lost for one that shares no commit with it.

    An empty lake that was started in the place of a damaged one must not replace its backup.
    """
    if not (folder / GRAPH).exists():
        return
    with closing(connect(root / GRAPH)) as rows, suppress(apsw.CorruptError, apsw.NotADBError):
        rows.execute("ATTACH ? AS saved", (str(folder / GRAPH),))
        if next(rows.execute(_IS_ANOTHER))[0]:
            raise Refused(
                f"{folder} is the backup of another lake: no commit of it is in {root}",
                remedy="Name another folder, or bring that lake back with `headrace lake restore"
                f" {folder}`.",
            )


def _copy_keys(root: Path, folder: Path) -> None:
    """The keys of now; where there are none, an earlier run's must not come back."""
    copy_database(root / KEYS, folder / KEYS)
    if not (root / KEYS).exists():
        (folder / KEYS).unlink(missing_ok=True)


def _copy_graph(root: Path, folder: Path) -> Path:
    """One snapshot of the graph, without uploads in progress, in a file of its own."""
    copied = folder / f"{GRAPH}.new"
    copy_database(root / GRAPH, copied)
    with closing(connect(copied)) as rows:
        rows.execute("BEGIN; DELETE FROM upload; DELETE FROM part; COMMIT")
    return copied


def _prune(folder: Path, sizes: dict[bytes, int]) -> None:
    """Drop what only earlier runs needed."""
    for file in (folder / "blobs").glob("??/*"):
        name = file.parent.name + file.name
        if len(name) != 64 or bytes.fromhex(name) not in sizes:
            file.unlink()


def _read_listed(root: Path) -> list[str]:
    try:
        return [str(folder) for folder in json.loads((root / LISTED).read_text())]
    except (OSError, ValueError):
        return []


def note_backup(root: Path, made: Backup) -> None:
    """Remember it in the lake, for the day when that is damaged."""
    write_json(root / LISTED, list(dict.fromkeys([*_read_listed(root), made.folder])))
