"""What a service refused: for its status, and for the audit log.

A serving key may not write the audit log, so the service hands its refusals in: each is kept in
its own folder first, then left on the data repository's `landing` branch beside its predictions.
The reconcile deployment takes it into the log.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flows import audit
from flows.audit import spool
from storage.lake import Lake
from storage.registry import layout

RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the newest index, or something it names, was not loaded."""

    release: str
    index: int
    step: str
    reason: str
    at: datetime

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `/status` shows them."""
        return {
            "release": self.release or None,
            "index": self.index,
            "step": self.step,
            "reason": self.reason,
            "at": self.at.isoformat(timespec="seconds"),
        }


class RefusalOutbox:
    """One environment's refusals, reported once each however long they last."""

    def __init__(self, lake: Lake, *, pipeline: str, environment: str, folder: Path) -> None:
        self._lake, self._pipeline, self._folder = lake, pipeline, folder
        self._environment = environment
        self._indexes = layout.index_folder(environment)
        self._retry_at = 0.0

    def keep(self, refusal: Refusal, error: Exception) -> None:
        """Keep a refusal durably. It never raises: what serves goes on."""
        path = f"{self._indexes}{refusal.index}"
        event = audit.refusal_event(
            f"{audit.SERVICE}{self._environment}",
            f"{layout.MODELS}{refusal.release}" if refusal.release else path,
            error,
            step=refusal.step,
            detail={"index": str(refusal.index)},
        )
        spool.keep_event(self._folder, event)

    def hand_in(self) -> None:
        """Leave what is kept where it is collected; after a failure again in half a minute."""
        if time.monotonic() < self._retry_at:
            return
        if not audit.hand_over(self._lake, self._pipeline, self._folder):
            self._retry_at = time.monotonic() + RETRY_S
