"""Opening a lake to serve it: a damaged one is refused, and its newest backup is named."""

from itertools import islice
from pathlib import Path

from storage.embedded.bytes.blobs import find_lake_blob_problem
from storage.embedded.graph.commits import get_commit
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.graph.version_graph import View
from storage.embedded.lake import GRAPH, SUSPECT, EmbeddedLake
from storage.embedded.upkeep.backups import newest_backup
from storage.embedded.upkeep.check import Report, check
from storage.embedded.upkeep.reach import list_refs, scan_staged_entries
from storage.errors import Damaged, NotFound

SAMPLED_TREES = 32
SAMPLED_OBJECTS = 64


def open_sound(root: Path) -> EmbeddedLake:
    """Open the lake if every ref leads to a readable tree and a sample of objects is there.

    After a failed sync every byte is read first. Raises: Damaged with what to do, and whatever
    opening a lake raises.
    """
    try:
        if (root / SUSPECT).exists() and (root / GRAPH).exists():
            _require_sound(check(root))
        lake = EmbeddedLake(root)
        try:
            lake.read(lambda view: _look(view, root))
            (root / SUSPECT).unlink(missing_ok=True)
        except BaseException:
            lake.close()
            raise
        return lake
    except Damaged as error:
        raise Damaged(str(error), remedy=_find_remedy(root)) from error


def _require_sound(report: Report) -> None:
    if not report.is_sound:
        first, count = report.problems[0], len(report.problems)
        raise Damaged(
            f"the disk failed to sync before, and {count} things are not what was written;"
            f" the first: {first.kind} {first.name} {first.problem}"
        )


def _look(view: View, root: Path) -> None:
    trees: dict[str, str] = {}
    for ref in list_refs(view.rows):
        try:
            tree = get_commit(view.rows, ref.repository, ref.commit).tree
            view.nodes.root(tree)
        except (Damaged, NotFound) as error:
            raise Damaged(f"{ref.name} of {ref.repository} cannot be read: {error}") from error
        trees.setdefault(tree, ref.repository)
    for tree, repository in list(trees.items())[:SAMPLED_TREES]:
        for key, value in _take_sample(view, tree):
            _require_there(root, f"{repository}/{key}", value)
    for repository, key, value in islice(scan_staged_entries(view.rows), SAMPLED_OBJECTS):
        _require_there(root, f"{repository}/{key} (uncommitted)", value)


def _require_there(root: Path, name: str, value: ObjectEntry) -> None:
    if problem := find_lake_blob_problem(root, value.digest, value.size, read=False):
        raise Damaged(f"the object {name} {problem}")


def _take_sample(view: View, tree: str) -> list[tuple[str, ObjectEntry]]:
    """Some entries from the beginning of the tree's first group and the end of its last."""
    groups = view.nodes.root(tree).groups
    if not groups:
        return []
    first = view.nodes.range(view.nodes.index(groups[0].id).ranges[0].id)
    last = view.nodes.range(view.nodes.index(groups[-1].id).ranges[-1].id)
    some = SAMPLED_OBJECTS // 2
    return [
        *zip(first.keys[:some], first.entries[:some], strict=True),
        *zip(last.keys[-some:], last.entries[-some:], strict=True),
    ]


def _find_remedy(root: Path) -> str:
    backup = newest_backup(root)
    if backup is None:
        return (
            "`headrace lake check` lists what is damaged. There is no backup of this lake: move"
            f" {root} away and keep it, then start an empty one."
        )
    return (
        f"`headrace lake check` lists what is damaged. Move {root} away and keep it, then"
        f" `headrace lake restore {backup.folder}` brings back the backup of {backup.made_at}."
    )
