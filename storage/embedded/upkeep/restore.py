"""A lake from a backup."""

from contextlib import closing
from pathlib import Path

from storage.embedded.bytes.blobs import full_disk_named, sync_folder
from storage.embedded.bytes.folder_locks import bytes_stay, hold
from storage.embedded.lake import GRAPH, make_durable_folder
from storage.embedded.upkeep.backups import KEYS, Backup, note_backup, read_backup
from storage.embedded.upkeep.check import Tell, snapshot
from storage.embedded.upkeep.copies import copy_database, place_all, wanted
from storage.errors import Refused


def restore(folder: Path, root: Path, *, tell: Tell = lambda _: None) -> Backup:
    """Fill an empty lake, which nobody serves, from a backup; every byte is read on the way.

    The graph comes into place last: after an interruption the lake is empty; restore it again.
    Raises: NotFound, Refused if the lake is not empty, Damaged naming what the backup lost.
    """
    made = read_backup(folder)
    make_durable_folder(root)
    with full_disk_named(), closing(hold(root)), bytes_stay(folder):
        _require_empty(root)
        # First, so that a backup into the same folder meanwhile does not change what is restored.
        graph = root / f"{GRAPH}.restored"
        copy_database(folder / GRAPH, graph)
        commits, sizes = wanted(graph)
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


def _require_empty(root: Path) -> None:
    if not (root / GRAPH).exists():
        return
    with snapshot(root) as rows:
        (count,) = next(rows.execute("SELECT count(*) FROM repository"))
    if count:
        raise Refused(
            f"the lake in {root} is not empty: it has {count} repositories",
            remedy=f"Move {root} away first; a restore never writes over data.",
        )
