"""The trigger ledger as several stages read it: what became of the decisions in it.

ledger/<decision id>.json         the decision and its evidence
ledger/<decision id>.grade.json   what it was worth, once labels came

No reader reads the whole ledger: a compaction keeps what is still open at `compacted/ledger.json`,
and who comes later reads what differs since.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from flows.errors import Misconfigured
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.runs import records
from storage.runs.records import Record
from storage.runs.summaries import State, Summary

LEDGER = "ledger"
_GRADE = ".grade.json"
# Of event time: nothing that decides about a window looks further back from it.
_MEMORY = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class DecisionState:
    """What later runs must know of one decision.

    rows: predictions in its window. decided_at: when its run started, empty if that left no
    record. answered: a training run was made for it, with a release or without. verdict: its
    grade, empty before the first.
    """

    id: str
    release: str
    window_end: datetime
    action: str
    alarm: bool
    level: int
    rows: int
    decided_at: str = ""
    answered: bool = False
    verdict: str = ""

    def to_plain(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self) | {"window_end": self.window_end.isoformat()}

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "DecisionState":
        """The inverse of `to_plain`."""
        return cls(**{**value, "window_end": datetime.fromisoformat(value["window_end"])})

    @property
    def asks(self) -> bool:
        """Whether it asks for a retraining that nobody answered."""
        return self.action == "retrain" and not self.answered

    @property
    def gradable(self) -> bool:
        """Whether a grade is missing, or may come to be another once labels came."""
        waits = self.verdict == "ungraded" and self.rows > 0 and self.level != 1
        return not self.verdict or waits


def path_of(decision_id: str) -> str:
    """Where a decision is in the trigger ledger."""
    return f"{LEDGER}/{decision_id}.json"


def path_of_grade(decision_id: str) -> str:
    """Where its grade is."""
    return f"{LEDGER}/{decision_id}{_GRADE}"


def is_grade(path: str) -> bool:
    """Whether an object of the ledger is a grade, and no decision."""
    return path.endswith(_GRADE)


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
            code="stage.unknown_decision",
        ) from error
    return datetime.fromisoformat(entry["decision"]["window_end"])


def read_states(lake: Lake, pin: Pin) -> list[DecisionState]:
    """The decisions that may still matter at the pin, the oldest window first.

    Those are the ones that ask for a retraining still, and those whose window ended within a year
    of the newest in which something was served.
    """
    found = [DecisionState.from_plain(one) for one in DECISIONS.at(lake, pin)["decisions"]]
    return sorted(found, key=lambda state: (state.window_end, state.id))


def _derive_states(lake: Lake, pin: Pin, last: State | None) -> State:
    """The states at the pin, from those at an earlier commit and what differs since."""
    base = Pin(pin.repository, last["commit"]) if last else None
    states = {one["id"]: DecisionState.from_plain(one) for one in last["decisions"]} if last else {}
    there, gone = _find_ledger(lake, base, pin)
    if base and (any(map(is_grade, gone)) or _has_lost_records(lake, base, pin)):
        # What was taken away says nothing of what it had changed.
        return _derive_states(lake, pin, None)
    entries = {
        path: json.loads(text) for path, text in records.read_bodies(lake, pin, there).items()
    }
    for path in gone:
        states.pop(path.removeprefix(f"{LEDGER}/").removesuffix(".json"), None)
    for path, entry in entries.items():
        if not is_grade(path):
            state = _describe(entry)
            known = states.get(state.id, state)
            states[state.id] = replace(
                state,
                decided_at=known.decided_at,
                answered=known.answered,
                verdict=known.verdict,
            )
    _update(states, "verdict", {e["decision_id"]: e["verdict"] for e in _grades(entries)})
    monitored, trained = (_read_records(lake, base, pin, s) for s in ("monitor", "train"))
    _update(states, "decided_at", {_named(r): r.started_at for r in monitored})
    _update(states, "answered", {_named(r): True for r in trained})
    kept = [state.to_plain() for state in _leave_out_old(states.values())]
    return {"commit": pin.commit, "decisions": kept}


DECISIONS = Summary(LEDGER, _derive_states)


def _find_ledger(lake: Lake, base: Pin | None, pin: Pin) -> tuple[list[str], list[str]]:
    """Paths of the ledger that are new or changed since `base`, and those that are gone."""
    prefix = f"{LEDGER}/"
    if base is None:
        listed = lake.fs.objects(pin.repository, pin.commit, prefix=prefix)
        return [entry.path for entry in listed], []
    found = lake.fs.diff(pin.repository, base.commit, pin.commit, prefix=prefix)
    return (
        [change.path for change in found if change.kind != "removed"],
        [change.path for change in found if change.kind == "removed"],
    )


def _has_lost_records(lake: Lake, base: Pin, pin: Pin) -> bool:
    return any(records.find_changed(lake, base, pin, stage=s).removed for s in ("monitor", "train"))


def _read_records(lake: Lake, base: Pin | None, pin: Pin, stage: str) -> list[Record]:
    if base is None:
        return records.at(lake, pin, stage=stage)
    changed = records.find_changed(lake, base, pin, stage=stage).there
    texts = records.read_bodies(lake, pin, changed)
    return [records.read_record(path, text) for path, text in texts.items()]


def _describe(entry: Mapping[str, Any]) -> DecisionState:
    decision = entry["decision"]
    return DecisionState(
        id=decision["id"],
        release=decision["release"],
        window_end=datetime.fromisoformat(decision["window_end"]),
        action=decision["action"],
        alarm=decision["alarm"],
        level=decision["level"],
        rows=entry["evidence"]["window"]["rows"],
    )


def _grades(entries: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (entry for path, entry in entries.items() if is_grade(path))


def _named(record: Record) -> str:
    """The decision that a run made or answered; empty for none."""
    return str(record.details.get("decision") or "")


def _update(states: dict[str, DecisionState], field: str, values: Mapping[str, Any]) -> None:
    for id, value in values.items():
        if id in states:
            states[id] = replace(states[id], **{field: value})


def _leave_out_old(states: Iterable[DecisionState]) -> list[DecisionState]:
    """A window in which nothing was served dates nothing: its data may be of another year."""
    known = list(states)
    ends = [state.window_end for state in known if state.rows]
    if not ends:
        return known
    since = max(ends) - _MEMORY
    return [s for s in known if s.asks or s.window_end >= since]
