"""What the records of both repositories ask for and no run has answered.

For the releases it is a summary: candidates without a verdict, those that passed and were not
registered, and the newest release of main. For decisions see flows/ledger.py.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from flows.ledger import DECISIONS, read_states
from storage.lake import MAIN, Lake, Pin
from storage.registry import ReleaseRef, layout
from storage.runs import Provenance, records
from storage.runs.compaction import compact
from storage.runs.records import Record
from storage.runs.summaries import State, Summary
from storage.waiting_batches import OPEN_BATCHES

# A run that was started may be about to answer.
GRACE = timedelta(minutes=1)
_SERVE = "serve"


@dataclass(frozen=True, slots=True)
class NewestRelease:
    """The highest version that was trained on main, and the environments that named it.

    `against` is the digest of the champion it was measured against, None for none.
    """

    release: str
    candidate: str
    against: str | None
    registered_at: str
    named_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenCandidates:
    """Candidate to since when it waits: for a verdict, or for its registration once it passed."""

    unjudged: Mapping[str, str]
    unregistered: Mapping[str, str]
    newest: NewestRelease | None


def find_unanswered(lake: Lake, data: Pin, now: datetime) -> list[str]:
    """Decisions to retrain that no training has answered within the grace period."""
    asking = {one.id: one.decided_at for one in read_states(lake, data) if one.asks}
    return find_overdue(asking, now)


def read_candidates(lake: Lake, releases: Pin) -> OpenCandidates:
    """What is open at the pin, from the last compaction and what is new since."""
    state = OPEN_CANDIDATES.at(lake, releases)
    return OpenCandidates(state["unjudged"], state["unregistered"], _newest_of(state))


def find_overdue(waiting: Mapping[str, str], now: datetime) -> list[str]:
    """Those that wait for longer than the grace period, the newest first."""
    late = [name for name, at in waiting.items() if at and _is_overdue(at, now)]
    return sorted(late, key=lambda name: (waiting[name], name), reverse=True)


def is_unpromoted(
    newest: NewestRelease, environment: str, champion: str | None, now: datetime
) -> bool:
    """Whether no index of the environment ever named it and it may still be promoted by itself.

    One that was measured against another champion than today's waits for a person.
    """
    may = newest.against == champion and environment not in newest.named_by
    return may and _is_overdue(newest.registered_at, now)


def compact_records(lake: Lake, data: Pin, releases: Pin, *, by: Provenance | None) -> int:
    """Compact each repository where enough is new; returns how many records were taken over."""
    plan = ((data, (OPEN_BATCHES, DECISIONS)), (releases, (OPEN_CANDIDATES,)))
    done = [compact(lake, pin.repository, summaries, by=by) for pin, summaries in plan]
    return sum(one.record.counts["records"] for one in done if one is not None)


def _derive_open(lake: Lake, pin: Pin, last: State | None) -> State:
    base = Pin(pin.repository, last["commit"]) if last else None
    if base and records.find_changed(lake, base, pin).removed:
        return _derive_open(lake, pin, None)
    news = records.read_since(lake, base, pin) if base else records.at(lake, pin)[::-1]
    before: State = last or {"unjudged": {}, "unregistered": {}, "newest": None}
    return {"commit": pin.commit, **fold(before, news)}


def fold(before: State, news: list[Record]) -> dict[str, object]:
    """The open work once these records are known too, the oldest first."""
    by_stage: dict[str, list[Record]] = {}
    for record in news:
        by_stage.setdefault(record.stage, []).append(record)
    sealed = {r.run_id: r.started_at for r in by_stage.get(layout.CANDIDATE, ())}
    judged = {str(r.details["candidate"]): r for r in by_stage.get(layout.GATE, ())}
    passed = {c: r.started_at for c, r in judged.items() if r.details["passed"]}
    registered = [r for r in by_stage.get(layout.REGISTER, ()) if "candidate" in r.details]
    released = {str(r.details["candidate"]) for r in registered}
    newest = _fold_newest(_newest_of(before), registered, by_stage.get(_SERVE, ()))
    return {
        "unjudged": _without({**before["unjudged"], **sealed}, judged),
        "unregistered": _without({**before["unregistered"], **passed}, released),
        "newest": None if newest is None else asdict(newest),
    }


def _fold_newest(
    newest: NewestRelease | None, registered: Iterable[Record], served: Iterable[Record]
) -> NewestRelease | None:
    for record in registered:
        said = record.details
        if said["branch"] != MAIN:
            continue
        if newest is None or ReleaseRef.parse(said["release"]) > ReleaseRef.parse(newest.release):
            newest = NewestRelease(
                said["release"], said["candidate"], said["against"], record.started_at
            )
    if newest is None:
        return None
    named = {r.details["environment"] for r in served if r.details["release"] == newest.release}
    return replace(newest, named_by=tuple(sorted({*newest.named_by, *named})))


def _newest_of(state: State) -> NewestRelease | None:
    found = state["newest"]
    return None if found is None else NewestRelease(**{**found, "named_by": (*found["named_by"],)})


def _without(waiting: Mapping[str, str], answered: Container[str]) -> dict[str, str]:
    return {name: at for name, at in waiting.items() if name not in answered}


def _is_overdue(at: str, now: datetime) -> bool:
    return now - datetime.fromisoformat(at) > GRACE


OPEN_CANDIDATES = Summary("candidates", _derive_open)
