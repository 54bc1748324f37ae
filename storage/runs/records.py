"""The metadata store: one object per run, committed together with what the run wrote."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Self

from storage.errors import NotFound
from storage.lake import Lake, Pin

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


@dataclass(frozen=True, slots=True)
class Record:
    """What one run did. `attempt` makes two attempts of one run differ byte for byte."""

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

    def to_json(self) -> bytes:
        """Sorted keys, one line."""
        body = {name: _plain(getattr(self, name)) for name in self.__slots__}
        return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The inverse of `to_json`."""
        body = json.loads(data)
        mark = body.pop("superseded")
        return cls(**body, superseded=Superseded(**mark) if mark else None)


def path_of(stage: str, run: str) -> str:
    """Where the record of a run stands."""
    return f"metadata/{stage}/{run}.json"


def find(lake: Lake, repository: str, ref: str, *, stage: str, run: str) -> Record | None:
    """The run's record at the ref, superseded or not."""
    try:
        return Record.from_json(lake.fs.get(repository, ref, path_of(stage, run)))
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
            return Record.from_json(lake.fs.get(repository, *place))
        except NotFound:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(one, wanted))


def _plain(value: Any) -> Any:
    if isinstance(value, Superseded):
        return {"by": value.by, "may_run_again": value.may_run_again}
    return dict(value) if isinstance(value, Mapping) else value
