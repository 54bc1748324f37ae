"""What serves now and what was refused; every endpoint reads it, the index follower writes it."""

import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flows.service.models.model import ServedModel
from flows.service.models.refusals import Refusal


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """What one signed index says should run: a champion, perhaps a canary, perhaps a shadow."""

    index: int
    index_digest: str
    champion: ServedModel
    canary: ServedModel | None = None
    canary_percent: int = 0
    shadow: ServedModel | None = None

    def choose(self, request_id: str) -> ServedModel:
        """Who answers: the same for the same request id."""
        if self.canary and zlib.crc32(request_id.encode()) % 100 < self.canary_percent:
            return self.canary
        return self.champion

    def find(self, model: str, version: str) -> ServedModel | None:
        """The release that a path names; None if it answers nobody here."""
        for one in (self.champion, self.canary):
            if one and (one.name, str(one.version)) == (model, version):
                return one
        return None

    @property
    def models(self) -> list[ServedModel]:
        """Everything that is loaded."""
        return [one for one in (self.champion, self.canary, self.shadow) if one]


@dataclass(slots=True)
class ServingState:
    """One writer, the index follower; readers take each attribute once.

    `loaded` is replaced as a whole: a request in flight finishes on the one it took.
    `waiting` says what there must be before anything can serve.
    """

    loaded: LoadedIndex | None = None
    since: datetime | None = None
    refusal: Refusal | None = None
    refusals: int = 0
    swaps: int = 0
    fresh_until: datetime | None = None
    stale: str = ""
    lake_problem: str = ""
    waiting: str = ""
    checked: datetime | None = None
    retired_unknown: dict[str, int] = field(default_factory=dict)

    def swap(self, loaded: LoadedIndex) -> None:
        """Let the next request be answered by `loaded`."""
        retired, self.loaded = self.loaded, loaded
        self.since = datetime.now(UTC)
        self.swaps += 1
        for model in retired.models if retired else ():
            _add_counts(model.count_unknown_categories(), to=self.retired_unknown)

    def count_unknown_categories(self) -> dict[str, int]:
        """Values that fitting never saw, by feature, since the service started."""
        totals = dict(self.retired_unknown)
        for model in self.loaded.models if self.loaded else ():
            _add_counts(model.count_unknown_categories(), to=totals)
        return totals

    def explain_staleness(self, now: datetime) -> str:
        """Why the index is not known to be the newest any more; empty if it is fresh."""
        if not self.stale and self.fresh_until and now >= self.fresh_until:
            return f"the index's freshness ended at {self.fresh_until:%Y-%m-%dT%H:%M:%SZ}"
        return self.stale

    def age_s(self, now: datetime) -> float:
        """Seconds since the lake was last asked; infinite before the first answer."""
        return (now - self.checked).total_seconds() if self.checked else float("inf")


def _add_counts(counts: dict[str, int], *, to: dict[str, int]) -> None:
    for name, count in counts.items():
        to[name] = to.get(name, 0) + count
