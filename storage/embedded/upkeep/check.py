"""Is the lake what was written? Refs, commits, trees and bytes, each against its own hash.

Works on a lake that is served, on one that is not, and on a backup of one.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from storage.embedded.bytes.blobs import find_blob_problem, find_lake_blob_problem
from storage.embedded.bytes.folder_locks import keep_bytes
from storage.embedded.graph.database import check_version
from storage.embedded.lake import GRAPH
from storage.embedded.sqlite import connect, fetch_all
from storage.embedded.upkeep.damage import Holding, find_holders
from storage.embedded.upkeep.reach import (
    Named,
    Walk,
    list_all_commits,
    list_ref_commits,
    scan_staged_entries,
)
from storage.errors import Damaged, NotFound

Tell = Callable[[str], None]
PROGRESS_BYTES = 1 << 30
SHOWN = 20
"""How many paths a problem lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not what was written, and what it takes along."""

    kind: str
    """`database`, `commit`, `node`, `object`, `part` or `stray` (bytes that nothing names)."""
    name: str
    problem: str
    paths: tuple[str, ...] = ()
    """Where users meet it: `repository/key`."""
    commits: tuple[str, ...] = ()
    """All commits that hold it: `repository@commit`; none if it is only staged."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what was wrong with it."""

    commits: int
    objects: int
    """Different ones: many keys and versions may share one."""
    octets: int
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        """Whether everything is what was written."""
        return not self.problems


@dataclass(slots=True)
class _Found:
    """What the walk of the graph collects before any byte is read."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    trees: list[tuple[Named, str]] = field(default_factory=list)

    def note(self, name: str, error: Damaged) -> None:
        """A commit or node that could not be read."""
        self.lost.setdefault(name, str(error))


def check(root: Path, *, deep: bool = False, tell: Tell = lambda _: None) -> Report:
    """Read every commit, tree and byte that a branch, a tag or uncommitted data needs.

    `deep` adds what nothing refers to any more, and all of the database file instead of its
    structure. Raises: NotFound if there is no lake, Unavailable while bytes are collected.
    """
    with keep_bytes(_require_lake(root)):
        return check_held(root, deep=deep, tell=tell)


def check_held(
    root: Path, *, deep: bool = False, read: bool = True, tell: Tell = lambda _: None
) -> Report:
    """The same for one who keeps collections out; without `read` the bytes are only measured."""
    try:
        with open_snapshot(root) as rows:
            broken = _find_database_problem(rows, deep=deep)
            return broken or _check_graph(root, rows, deep=deep, read=read, tell=tell)
    except (apsw.CorruptError, apsw.NotADBError, Damaged) as error:
        return Report(0, 0, 0, (Problem("database", GRAPH, str(error)),))


@contextmanager
def open_snapshot(root: Path) -> Iterator[apsw.Connection]:
    """The graph at one moment, also while it is served. Raises: Damaged, NotFound."""
    path = _require_lake(root) / GRAPH
    with closing(connect(path)) as rows:
        check_version(path, rows)
        rows.execute("BEGIN")
        yield rows
        rows.execute("ROLLBACK")


def _require_lake(root: Path) -> Path:
    if not (root / GRAPH).is_file():
        raise NotFound(f"there is no lake in {root}", remedy="`headrace up` makes one.")
    return root


def _find_database_problem(rows: apsw.Connection, *, deep: bool) -> Report | None:
    verdict = rows.pragma("integrity_check" if deep else "quick_check", 1)
    if verdict == "ok":
        return None
    return Report(0, 0, 0, (Problem("database", GRAPH, str(verdict)),))


def _check_graph(
    root: Path, rows: apsw.Connection, *, deep: bool, read: bool, tell: Tell
) -> Report:
    found = _walk(rows, deep=deep)
    tell(f"{len(found.trees)} commits name {len(found.sizes)} objects")
    bad, octets = _check_blobs(root, found.sizes, read=read, tell=tell)
    named = find_holders(rows, found.trees, {*bad, *found.lost})
    problems = [_make_problem("object", digest, text, named) for digest, text in bad.items()]
    problems += [
        _make_problem(_tell_kind(text), node, text, named) for node, text in found.lost.items()
    ]
    problems += _find_part_problems(root, rows)
    problems += _find_stray_problems(root, found.sizes) if deep else []
    return Report(len(found.trees), len(found.sizes), octets, tuple(problems))


def _walk(rows: apsw.Connection, *, deep: bool) -> _Found:
    found = _Found()
    walk = Walk(rows, lost=found.note)
    for named, commit in walk.commits(list_all_commits(rows) if deep else list_ref_commits(rows)):
        found.trees.append((named, commit.tree))
        for _, value in walk.items(commit.tree):
            found.sizes[bytes.fromhex(value.digest)] = value.size
    for _, _, value in scan_staged_entries(rows):
        found.sizes[bytes.fromhex(value.digest)] = value.size
    return found


def _check_blobs(
    root: Path, sizes: dict[bytes, int], *, read: bool, tell: Tell
) -> tuple[dict[str, str], int]:
    bad: dict[str, str] = {}
    octets = said = 0
    for digest, size in sizes.items():
        name = digest.hex()
        if text := find_lake_blob_problem(root, name, size, read=read):
            bad[name] = text
            tell(f"object {name} {text}")
        octets += size
        if octets - said >= PROGRESS_BYTES:
            said = octets
            tell(f"{octets / 1e9:.1f} GB looked at")
    return bad, octets


def _make_problem(kind: str, name: str, text: str, named: dict[str, Holding]) -> Problem:
    held = named[name]
    return Problem(kind, name, text, tuple(held.paths[:SHOWN]), tuple(held.commits))


def _tell_kind(text: str) -> str:
    return "commit" if text.startswith("commit") else "node"


def _find_part_problems(root: Path, rows: apsw.Connection) -> list[Problem]:
    """Parts of open uploads whose file is not as it was received."""
    found = fetch_all(
        rows,
        "SELECT part.file, part.size, upload.repository || '/' || upload.key FROM part"
        " JOIN upload ON upload.id = part.upload",
    )
    problems = []
    for file, size, path in found:
        if text := find_blob_problem(root / "parts" / file, "", size, read=False):
            problems.append(Problem("part", file, text, (path,)))
    return problems


def _find_stray_problems(root: Path, sizes: dict[bytes, int]) -> list[Problem]:
    """Blobs that nothing refers to and that do not fit their name either."""
    problems = []
    for file in sorted((root / "blobs").glob("??/*")):
        digest = file.parent.name + file.name
        if not _is_digest(digest):
            problems.append(Problem("stray", digest, "is no blob of the lake"))
        elif bytes.fromhex(digest) not in sizes:
            size = file.stat().st_size
            if text := find_blob_problem(file, digest, size):
                problems.append(Problem("stray", digest, text))
    return problems


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
