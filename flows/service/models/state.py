"""The service's state: what serves, what was refused, how the lake is. Read by every endpoint."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flows.service.models.model import Deployment


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the newest index, or something it names, was not loaded."""

    release: str
    index: int
    step: str
    reason: str
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "release": self.release or None,
            "index": self.index,
            "step": self.step,
            "reason": self.reason,
            "at": self.at.isoformat(timespec="seconds"),
        }


@dataclass(slots=True)
class Serving:
    """One writer, the reconciler; readers take each attribute once.

    `deployment` is replaced as a whole: a request in flight finishes on the one it took.
    `waiting` says what there must be before anything can serve.
    """

    deployment: Deployment | None = None
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

    def swap(self, deployment: Deployment) -> None:
        """Let the next request be answered by `deployment`."""
        retired, self.deployment = self.deployment, deployment
        self.since = datetime.now(UTC)
        self.swaps += 1
        for model in retired.models if retired else ():
            for name, count in model.unknown_categories().items():
                self.retired_unknown[name] = self.retired_unknown.get(name, 0) + count

    def unknown_categories(self) -> dict[str, int]:
        """Values that fitting never saw, by feature, since the service started."""
        totals = dict(self.retired_unknown)
        for model in self.deployment.models if self.deployment else ():
            for name, count in model.unknown_categories().items():
                totals[name] = totals.get(name, 0) + count
        return totals

    def is_stale(self, now: datetime) -> str:
        """Why the index is not known to be the newest any more; empty if it is fresh."""
        if not self.stale and self.fresh_until and now >= self.fresh_until:
            return f"the index's freshness ended at {self.fresh_until:%Y-%m-%dT%H:%M:%SZ}"
        return self.stale

    def age_s(self, now: datetime) -> float:
        """Seconds since the lake was last asked; infinite before the first answer."""
        return (now - self.checked).total_seconds() if self.checked else float("inf")
