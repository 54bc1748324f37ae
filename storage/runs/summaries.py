"""What a reader must know of everything that ever happened, kept beside what happened.

A summary is a function of a commit. It is derived from the summary of an earlier commit and from
what differs between the two, so that its cost is that of the difference. A compaction stores it
at `compacted/<name>.json`; whoever reads later derives the rest. Nothing depends on it being
there: without one, or with one that cannot be used, it is derived from the whole history.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import NotFound
from storage.lake import Lake, Pin

FOLDER = "compacted/"
_FORMAT = 1

State = Mapping[str, Any]

# What reading a stored state can raise that is not as it should be. NotFound is a LookupError,
# Refused a ValueError; what is wrong with the lake itself is raised again without the state.
UNUSABLE = (LookupError, TypeError, AttributeError, ValueError)

# The state at a pin, from the one at an earlier commit; from all that is there if that is None.
Derive = Callable[[Lake, Pin, State | None], State]


@dataclass(frozen=True, slots=True)
class Summary:
    """One reader's summary: a name, and how it is derived."""

    name: str
    derive: Derive

    @property
    def path(self) -> str:
        """Where a compaction stores it."""
        return f"{FOLDER}{self.name}.json"

    def read_stored(self, lake: Lake, pin: Pin) -> State | None:
        """The state that the last compaction before the pin left; None if it cannot be used."""
        try:
            found = json.loads(lake.fs.get(pin.repository, pin.commit, self.path))
        except (NotFound, ValueError):
            return None
        usable = isinstance(found, dict) and found.get("format") == _FORMAT
        state = found.get("state") if usable else None
        return state if isinstance(state, dict) else None

    def at(self, lake: Lake, pin: Pin) -> State:
        """The state at the pin. Raises what `derive` raises without an earlier state."""
        stored = self.read_stored(lake, pin)
        if stored is not None:
            try:
                return self.derive(lake, pin, stored)
            except UNUSABLE:
                # Damaged, of another version, or its commit was collected: begin from nothing.
                pass
        return self.derive(lake, pin, None)


def to_json(state: State) -> bytes:
    """How a state is stored."""
    return json.dumps({"format": _FORMAT, "state": dict(state)}, sort_keys=True).encode()
