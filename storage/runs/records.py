"""The metadata store: one object per run, committed together with what the run wrote."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from storage.errors import NotFound, Refused, StorageError
from storage.lake import Lake, Pin
from storage.lake.parallel import read_each
from storage.runs import record_table
from storage.runs.codec import PLAIN
from storage.runs.record_table import ROOT, folder_of, is_record, path_of
from storage.runs.summaries import UNUSABLE, State, Summary

Json = Mapping[str, Any]


def run_id(stage: str, *logical_input: str) -> str:
    """The digest that makes two starts of the same work one run: 64 hex digits.

    The logical input names the work, never the attempt: a batch's digest, a decision's id, the
    UTC window, a user's request id.
    """
    body = json.dumps([stage, *logical_input], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Superseded:
    """A rollback undid this run; `may_run_again` says whether the same input may land anew."""

    by: str
    may_run_again: bool
    later: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What one run did. `attempt` makes two attempts of one run differ byte for byte.

    `details` are what its stage says of its own work (storage/runs/details.py); `later` are
    fields that a later version of Headrace wrote.
    """

    stage: str
    run_id: str
    attempt: str
    started_at: str
    duration_s: float
    base: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Json = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    orchestrator: Mapping[str, str] = field(default_factory=dict)
    superseded: Superseded | None = None
    later: Json = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the record stands in its repository."""
        return path_of(self.stage, self.run_id)

    @property
    def stands(self) -> bool:
        """Whether the run happened and nothing allows it to happen again."""
        return self.superseded is None or not self.superseded.may_run_again

    def superseded_by(self, rollback: str, *, may_run_again: bool) -> "Record":
        """The record as a rollback leaves it."""
        return replace(self, superseded=Superseded(rollback, may_run_again))

    def to_plain(self) -> dict[str, Any]:
        """The record as dicts, lists, texts and numbers, in the order of its fields."""
        body: dict[str, Any] = PLAIN.to_plain(self)
        # Records always said so; `headrace runs --json` prints it.
        return body if self.superseded else {**body, "superseded": None}

    def to_json(self) -> bytes:
        """Sorted keys, one line."""
        return json.dumps(self.to_plain(), sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str = "A record") -> Self:
        """The inverse of `to_json`; `where` names the record in an error.

        Raises: StorageError `lake.record_incomplete` or `lake.record_malformed`.
        """
        try:
            body = json.loads(data)
        except ValueError as cause:
            raise StorageError(
                f"{where} is no JSON: {cause}.",
                remedy="Look at the commit that wrote it: no run of Headrace leaves such a record.",
                code="lake.record_malformed",
            ) from cause
        return PLAIN.from_plain(cls, body, where)


def read_record(path: str, text: bytes) -> Record:
    """The record that an object holds. Raises as `Record.from_json`, naming the object."""
    return Record.from_json(text, f"The record {path}")


def find(lake: Lake, repository: str, ref: str, *, stage: str, run: str) -> Record | None:
    """The run's record at the ref, superseded or not."""
    path = path_of(stage, run)
    try:
        return read_record(path, lake.fs.get(repository, ref, path))
    except NotFound:
        return None


@dataclass(frozen=True, slots=True)
class Changed:
    """Paths of records that differ from one commit to another."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def there(self) -> tuple[str, ...]:
        """Those that the later commit has."""
        return self.added + self.changed

    @property
    def before(self) -> tuple[str, ...]:
        """Those that the earlier commit has."""
        return self.changed + self.removed


def find_changed(lake: Lake, left: Pin, right: Pin, *, stage: str = "") -> Changed:
    """What differs from `left` to `right`; the lake compares only what the two do not share.

    Raises: NotFound if the lake does not have `left` any more.
    """
    found = lake.fs.diff(left.repository, left.commit, right.commit, prefix=_prefix(stage))
    kinds: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    for change in found:
        if is_record(change.path):
            kinds[change.kind].append(change.path)
    return Changed(**{kind: tuple(paths) for kind, paths in kinds.items()})


def read_since(lake: Lake, left: Pin, right: Pin, *, stage: str = "") -> list[Record]:
    """The records at `right` that `left` does not have, or has otherwise; the oldest first.

    Raises: as `find_changed`.
    """
    there = find_changed(lake, left, right, stage=stage).there
    return _sort(read_bodies(lake, right, there))[::-1]


def list_paths(lake: Lake, pin: Pin, *, stage: str = "") -> list[str]:
    """The path of every record at the pin."""
    found = lake.fs.objects(pin.repository, pin.commit, prefix=_prefix(stage))
    return [entry.path for entry in found if is_record(entry.path)]


def compacted_at(lake: Lake, pin: Pin) -> Pin | None:
    """The commit whose records the table `metadata/runs` at the pin holds; None without one."""
    state = COMPACTED.read_stored(lake, pin)
    try:
        return Pin(pin.repository, state["commit"]) if state else None
    except UNUSABLE:
        return None


def at(lake: Lake, pin: Pin, *, stage: str = "") -> list[Record]:
    """Every record at the pin, newest first: rows of the table, and objects for what is new."""
    base = compacted_at(lake, pin)
    if base is not None:
        with suppress(NotFound):
            return _merge_with_rows(lake, base, pin, stage)
    return _sort(read_bodies(lake, pin, list_paths(lake, pin, stage=stage)))


def read_newest(lake: Lake, pin: Pin, *, stage: str = "", limit: int) -> list[Record]:
    """The records at the pin that started last, newest first; the others are not read."""
    base = compacted_at(lake, pin)
    if base is None:
        return at(lake, pin, stage=stage)[:limit]
    try:
        return _merge_with_rows(lake, base, pin, stage, limit)[:limit]
    except NotFound:
        return at(lake, pin, stage=stage)[:limit]


def read_bodies(lake: Lake, pin: Pin, paths: Iterable[str]) -> dict[str, bytes]:
    """Path to the object's text at the pin, several reads in flight. Raises NotFound."""
    wanted = list(paths)
    found = read_each(lambda path: lake.fs.get(pin.repository, pin.commit, path), wanted)
    return dict(zip(wanted, found, strict=True))


def read(lake: Lake, repository: str, wanted: Iterable[tuple[str, str]]) -> list[Record | None]:
    """The records at (ref, path), several reads in flight; None where there is none."""

    def one(place: tuple[str, str]) -> Record | None:
        try:
            data = lake.fs.get(repository, *place)
            return Record.from_json(data, f"The record {place[1]}")
        except NotFound:
            return None

    return read_each(one, wanted)


def find_one(lake: Lake, pin: Pin, prefix: str) -> Record:
    """The record whose run id begins so; a whole id is looked up stage by stage.

    Raises: NotFound for none, Refused for several.
    """
    stages = lake.fs.folders(pin.repository, pin.commit, prefix=ROOT)
    begins = [path_of(stage, prefix).removesuffix(".json") for stage in stages]
    listed = read_each(
        lambda begin: lake.fs.objects(pin.repository, pin.commit, prefix=begin), begins
    )
    found = [entry.path for entries in listed for entry in entries if is_record(entry.path)]
    if not found:
        raise NotFound(
            f"No run at {pin.commit[:12]} has an id that begins with {prefix!r}.",
            remedy="`headrace runs` prints them; --on BRANCH looks on another branch.",
            code="lake.run_not_found",
        )
    if len(found) > 1:
        raise Refused(
            f"{len(found)} runs have an id that begins with {prefix!r}.",
            remedy="Give more digits.",
            code="lake.run_ambiguous",
        )
    return read_record(found[0], lake.fs.get(pin.repository, pin.commit, found[0]))


def _merge_with_rows(
    lake: Lake, base: Pin, pin: Pin, stage: str, limit: int | None = None
) -> list[Record]:
    """The table's rows, all or the newest, with what differs from its commit to the pin."""
    since = find_changed(lake, base, pin, stage=stage)
    if limit is None:
        rows = record_table.read_rows(lake, pin, stage=stage)
    else:
        # As many more as changed: each of them may be among the newest rows.
        most = limit + len(since.before)
        rows = record_table.read_newest(lake, pin, stage=stage, limit=most)
    outdated = set(since.before)
    kept = {path: text for path, text in rows.items() if path not in outdated}
    return _sort({**kept, **read_bodies(lake, pin, since.there)})


def _sort(texts: Mapping[str, bytes]) -> list[Record]:
    found = [read_record(path, text) for path, text in texts.items()]
    return sorted(found, key=lambda r: (r.started_at, r.run_id), reverse=True)


def _prefix(stage: str) -> str:
    return folder_of(stage) if stage else ROOT


def _derive_compacted(_lake: Lake, pin: Pin, _last: State | None) -> State:
    return {"commit": pin.commit}


COMPACTED = Summary("records", _derive_compacted)
