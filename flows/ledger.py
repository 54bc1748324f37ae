"""What a retraining needs to know of the decision that asked for it."""

import json
from datetime import datetime

from flows.errors import Misconfigured
from storage.errors import NotFound
from storage.lake import Lake, Pin

LEDGER = "ledger"


def path_of(decision_id: str) -> str:
    """Where a decision stands in the trigger ledger."""
    return f"{LEDGER}/{decision_id}.json"


def decided_until(lake: Lake, pin: Pin, decision_id: str) -> datetime:
    """The end of the window that the decision judged: what its retraining may know.

    Raises: Misconfigured if the ledger at the pin has no such decision.
    """
    try:
        entry = json.loads(lake.fs.get(pin.repository, pin.commit, path_of(decision_id)))
    except NotFound as error:
        raise Misconfigured(
            f"The ledger at {pin} has no decision {decision_id!r}.",
            remedy="Train for a request instead, or name a decision that `headrace runs` lists.",
        ) from error
    return datetime.fromisoformat(entry["decision"]["window_end"])
