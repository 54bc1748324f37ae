"""What a service refused, for the audit log: a serving key may not write that, so it hands it in.

Each refusal is kept in the service's own folder first, then left on the data repository's
`landing` branch beside its predictions; the reconcile deployment takes it into the log.
"""

import time
from pathlib import Path

from flows import audit
from flows.audit import spool
from storage.lake import Lake

RETRY_S = 30.0


class Refusals:
    """One environment's refusals, told once each however long they last."""

    def __init__(self, lake: Lake, *, pipeline: str, environment: str, folder: Path) -> None:
        self._lake, self._pipeline, self._folder = lake, pipeline, folder
        self._environment = environment
        self._retry_at = 0.0

    def tell(self, release: str, index: int, step: str, error: Exception) -> None:
        """Keep a refusal durably. It never raises: what serves goes on."""
        place = f"environments/{self._environment}/index/{index}"
        event = audit.refusal(
            f"{audit.SERVICE}{self._environment}",
            f"models/{release}" if release else place,
            error,
            step=step,
            detail={"index": str(index)},
        )
        spool.keep(self._folder, event)

    def hand_in(self) -> None:
        """Leave what is kept where it is collected; after a failure again in half a minute."""
        if time.monotonic() < self._retry_at:
            return
        if not audit.leave(self._lake, self._pipeline, self._folder):
            self._retry_at = time.monotonic() + RETRY_S
