"""The metadata store: one object per run, committed together with what the run wrote."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Self

from storage.errors import NotFound, StorageError
from storage.lake import Lake, Pin
from storage.runs.codec import PLAIN

Json = Mapping[str, Any]

# So many small reads in flight hide a lake's latency; more only queue up in front of it.
_READERS = 8


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


def path_of(stage: str, run: str) -> str:
    """Where the record of a run stands."""
    return f"metadata/{stage}/{run}.json"


def find(lake: Lake, repository: str, ref: str, *, stage: str, run: str) -> Record | None:
    """The run's record at the ref, superseded or not."""
    path = path_of(stage, run)
    try:
        return Record.from_json(lake.fs.get(repository, ref, path), f"The record {path}")
    except NotFound:
        return None


def at(lake: Lake, pin: Pin, *, stage: str = "") -> list[Record]:
    """Every record at the pin, newest first."""
    prefix = f"metadata/{stage}/" if stage else "metadata/"
    paths = (e.path for e in lake.fs.objects(pin.repository, pin.commit, prefix=prefix))
    found = read(lake, pin.repository, ((pin.commit, path) for path in paths))
    return sorted(
        (record for record in found if record), key=lambda r: (r.started_at, r.run_id), reverse=True
    )


def read(lake: Lake, repository: str, wanted: Iterable[tuple[str, str]]) -> list[Record | None]:
    """The records at (ref, path), several reads in flight; None where there is none."""

    def one(place: tuple[str, str]) -> Record | None:
        try:
            data = lake.fs.get(repository, *place)
            return Record.from_json(data, f"The record {place[1]}")
        except NotFound:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(one, wanted))
