"""The trigger ledger as the monitor writes it: a decision and its evidence, and later its grade.

Both are written before any event is sent. Where they are, and what other stages read of them, is
in flows/ledger.py.
"""

from dataclasses import dataclass

from flows.ledger import LEDGER, DecisionState, is_grade, path_of, path_of_grade, read_states
from flows.monitor.decide import Decision
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.grade import Grade
from flows.profile.record import decode, encode
from storage.lake import Lake, Pin
from storage.lake.parallel import read_each
from storage.runs import Run


@dataclass(frozen=True)
class LedgerEntry:
    """A decision with the evidence it was made from."""

    decision: Decision
    evidence: MonitorEvidence


def write_entry(run: Run, entry: LedgerEntry) -> None:
    """Put a decision on the run's branch. Raises: Conflict if it is there already."""
    run.put(path_of(entry.decision.id), encode(entry))


def write_grade(run: Run, grade: Grade) -> None:
    """Put a grade beside its decision; a later grade of the same decision replaces it."""
    run.replace(path_of_grade(grade.decision_id), encode(grade))


def read_entries(lake: Lake, pin: Pin) -> list[LedgerEntry]:
    """Every decision at the pin, the oldest window first: as many reads as there are decisions."""
    listed = lake.fs.objects(pin.repository, pin.commit, prefix=f"{LEDGER}/")
    found = _read(lake, pin, [entry.path for entry in listed if not is_grade(entry.path)])
    return sorted(found, key=lambda e: (e.decision.window_end, e.decision.id))


def read_decision(lake: Lake, pin: Pin, decision_id: str) -> Decision:
    """One decision. Raises: NotFound."""
    (entry,) = _read(lake, pin, [path_of(decision_id)])
    return entry.decision


def read_history(lake: Lake, pin: Pin) -> list[DecisionState]:
    """What earlier decisions led to, for the next one to consider.

    A window in which nothing was served decided nothing: it holds back no other.
    """
    return [state for state in read_states(lake, pin) if state.rows]


def read_gradable(lake: Lake, pin: Pin) -> list[LedgerEntry]:
    """The decisions whose grade is missing or may change, the oldest window first."""
    states = read_states(lake, pin)
    return _read(lake, pin, [path_of(state.id) for state in states if state.gradable])


def _read(lake: Lake, pin: Pin, paths: list[str]) -> list[LedgerEntry]:
    texts = read_each(lambda path: lake.fs.get(pin.repository, pin.commit, path), paths)
    return [decode(LedgerEntry, text) for text in texts]
