"""Every object, at any commit, that holds rows of a selection: what must go for them to be gone.

Data files and landed files are read; a Delta log's entry counts if it names such a file, since it
states the least and greatest values in it.
"""

import io
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import polars as pl

from storage.errors import NotFound
from storage.forgetting.selection import Selection
from storage.lake import Lake, Pin, url
from storage.lake.client import Commit
from storage.lake.parallel import read_each

_LOG = "/_delta_log/"
_FILES = ("add", "remove")
# More commits than a lake of this kind ever has.
_ALL = 10_000_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """An object as one commit brought it."""

    path: str
    commit: str


@dataclass(frozen=True, slots=True)
class Traces:
    """Where rows were found; `unreadable` are files that cannot be searched."""

    files: tuple[Place, ...] = ()
    logs: tuple[Place, ...] = ()
    unreadable: tuple[Place, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Everything that must lose its bytes."""
        return (*self.files, *self.logs)

    @property
    def paths(self) -> frozenset[str]:
        """Paths of data files with such rows."""
        return frozenset(place.path for place in self.files)


@dataclass(slots=True)
class Search:
    """Searches a repository's history; files that it read once are not read again."""

    lake: Lake
    repository: str
    selection: Selection
    _known: dict[str, bool | None] = field(default_factory=dict)

    def traces(self, heads: Collection[Pin]) -> Traces:
        """What any commit up to `heads` holds, below tables/ and landing/."""
        places = self._places(heads)
        files = [p for p in places if _is_data(p.path) and self.selection.concerns(p.path)]
        verdicts = dict(zip(files, read_each(self._holds, files), strict=True))
        holding = tuple(sorted(place for place, held in verdicts.items() if held))
        unreadable = tuple(sorted(place for place, held in verdicts.items() if held is None))
        logs = [p for p in places if _LOG in p.path and self.selection.concerns(p.path)]
        names = _by_table(holding)
        wanted = [p for p in logs if p.path.partition(_LOG)[0] in names]
        named = read_each(lambda p: self._names(p, names[p.path.partition(_LOG)[0]]), wanted)
        found = (place for place, is_named in zip(wanted, named, strict=True) if is_named)
        return Traces(holding, tuple(sorted(found)), unreadable)

    def _places(self, heads: Collection[Pin]) -> list[Place]:
        commits: dict[str, Commit] = {}
        for head in heads:
            for commit in self.lake.fs.log(
                self.repository, head.commit, limit=_ALL, first_parent=False
            ):
                commits.setdefault(commit.id, commit)
        brought = read_each(self._list_brought, list(commits.values()))
        return [place for places in brought for place in places]

    def _list_brought(self, commit: Commit) -> list[Place]:
        """Objects that the commit added or changed, against its first parent."""
        if not commit.parents:
            return []
        changes = self.lake.fs.diff(self.repository, commit.parents[0], commit.id)
        return [
            Place(change.path, commit.id)
            for change in changes
            if change.kind != "removed" and change.path.startswith(("tables/", "landing/"))
        ]

    def _holds(self, place: Place) -> bool | None:
        # Delta never gives two files one name; whoever delivers may.
        key = place.path if place.path.startswith("tables/") else str(place)
        if key not in self._known:
            self._known[key] = self._look(place)
        return self._known[key]

    def _look(self, place: Place) -> bool | None:
        address = url(self.repository, place.commit, place.path)
        options = self.lake.storage_options
        try:
            rows = pl.scan_parquet(
                address, glob=False, hive_partitioning=True, storage_options=options
            )
            if not self.selection.can_search(rows.collect_schema()):
                return None
            return rows_in(self.selection, rows) > 0
        # A torn file can also make polars panic, which is no Exception.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return (
                None
                if self.lake.fs.is_readable(self.repository, place.commit, place.path)
                else False
            )

    def _names(self, place: Place, names: frozenset[str]) -> bool:
        """Whether a log entry or a checkpoint adds one of the files, or an entry states a value."""
        try:
            data = self.lake.fs.get(self.repository, place.commit, place.path)
        except NotFound:
            return False
        # The log states the paths of partitions escaped.
        if any(unquote(name) in names for name in _find_added(place.path, data)):
            return True
        return place.path.endswith(".json") and states(data, self.selection)


def rows_in(selection: Selection, rows: pl.LazyFrame) -> int:
    """How many rows of a table are meant."""
    found = selection.of(rows)
    return 0 if found is None else int(found.select(pl.len()).collect(engine="streaming").item())


def states(entry: bytes, selection: Selection) -> bool:
    """Whether a log entry states a value itself: in the predicate of a DELETE, or a partition."""
    actions = [json.loads(line) for line in entry.splitlines() if line]
    said = [one["commitInfo"].get("operationParameters") for one in actions if "commitInfo" in one]
    said += [one[kind].get("partitionValues") for one in actions for kind in _FILES if kind in one]
    return any(selection.is_stated(json.dumps(one, ensure_ascii=False)) for one in said if one)


def _is_data(path: str) -> bool:
    if path.startswith("landing/"):
        return not path.rsplit("/", 1)[-1].startswith("_")
    return path.endswith(".parquet") and _LOG not in path


def _by_table(files: Iterable[Place]) -> dict[str, frozenset[str]]:
    """Every folder that could be a table's, with the names of the files below it."""
    found: dict[str, set[str]] = {}
    for place in files:
        parts = place.path.split("/")
        for depth in range(2, len(parts)):
            found.setdefault("/".join(parts[:depth]), set()).add("/".join(parts[depth:]))
    return {folder: frozenset(names) for folder, names in found.items()}


def _find_added(path: str, data: bytes) -> Iterator[str]:
    if path.endswith(".json"):
        actions = (json.loads(line) for line in data.splitlines() if line)
        yield from (action["add"]["path"] for action in actions if "add" in action)
    elif path.endswith(".parquet"):
        adds = pl.read_parquet(io.BytesIO(data), columns=["add"])["add"]
        yield from adds.struct.field("path").drop_nulls()
