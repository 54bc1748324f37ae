"""The trigger ledger: one object a decision, one more a grade, written before any event.

ledger/<decision id>.json         the decision and its evidence
ledger/<decision id>.grade.json   what it was worth, once labels came
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.ledger import LEDGER, path_of
from flows.monitor.decide import Decision, PastDecision, RunState
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.grade import Grade
from flows.profile.record import decode, encode
from storage.lake import Lake, Pin
from storage.runs import Run, records

_GRADE = ".grade.json"


@dataclass(frozen=True)
class Entry:
    """A decision with the evidence it was made from."""

    decision: Decision
    evidence: MonitorEvidence


def write(run: Run, entry: Entry) -> None:
    """Put a decision on the run's branch. Raises Conflict if it is there already."""
    run.put(path_of(entry.decision.id), encode(entry))


def write_grade(run: Run, grade: Grade) -> None:
    """Put a grade beside its decision; a later grade of the same decision replaces it."""
    run.replace(f"{LEDGER}/{grade.decision_id}{_GRADE}", encode(grade))


def entries(lake: Lake, pin: Pin) -> list[Entry]:
    """Every decision at the pin, the oldest window first."""
    found = [decode(Entry, data) for path, data in _read(lake, pin) if not path.endswith(_GRADE)]
    return sorted(found, key=lambda e: (e.decision.window_end, e.decision.id))


def entry(lake: Lake, pin: Pin, decision_id: str) -> Decision:
    """One decision. Raises NotFound."""
    data = lake.fs.get(pin.repository, pin.commit, path_of(decision_id))
    return decode(Entry, data).decision


def grades(lake: Lake, pin: Pin) -> Mapping[str, Grade]:
    """Decision id to its grade."""
    found = [decode(Grade, data) for path, data in _read(lake, pin) if path.endswith(_GRADE)]
    return {grade.decision_id: grade for grade in found}


def history(lake: Lake, pin: Pin) -> list[PastDecision]:
    """What earlier decisions led to, for the next one to consider.

    A window in which nothing was served decided nothing: it holds back no other.
    """
    trained = answered(lake, pin)
    return [
        PastDecision.of(e.decision, run=_state(e.decision, trained))
        for e in entries(lake, pin)
        if e.evidence.window.rows
    ]


def answered(lake: Lake, pin: Pin) -> set[str]:
    """Ids of decisions that a training run has answered, with a release or without."""
    trained = records.at(lake, pin, stage="train")
    return {str(r.details["decision"]) for r in trained if r.details.get("decision")}


def _state(decision: Decision, trained: set[str]) -> RunState:
    if decision.action != "retrain":
        return "none"
    return "finished" if decision.id in trained else "waiting"


def _read(lake: Lake, pin: Pin) -> list[tuple[str, bytes]]:
    listed = lake.fs.objects(pin.repository, pin.commit, prefix=f"{LEDGER}/")
    return [(e.path, lake.fs.get(pin.repository, pin.commit, e.path)) for e in listed]
