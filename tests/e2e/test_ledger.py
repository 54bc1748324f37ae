"""What the ledger tells the next decision."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flows.ledger import DECISIONS, DecisionState, decided_until, read_states
from flows.monitor import ledger
from flows.monitor.decide import Decision, make_decision_id
from flows.monitor.evidence import JudgedWindow, MonitorEvidence
from flows.monitor.grade import Grade
from storage.lake import Lake, Pin
from storage.runs import Job, Run, commit_once
from storage.runs.compaction import compact

JUNE, JULY = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)


def entry(start: datetime, end: datetime, *, rows: int) -> ledger.LedgerEntry:
    evidence = MonitorEvidence(
        pipeline="flights",
        release="flights/1",
        window=JudgedWindow(start, end, rows=rows, labelled_rows=rows),
        breaches=(),
        drift=(),
        measured=None,
        challenger=None,
        estimated=None,
        advantage=None,
        loss_rise=None,
        bias=None,
        estimated_rise=None,
        forecast=None,
    )
    decision = Decision(
        id=make_decision_id(evidence),
        pipeline="flights",
        release="flights/1",
        window_start=start,
        window_end=end,
        evidence_digest=evidence.digest,
        action="none",
        reason="challenger",
        alarm=False,
        witness="challenger",
        level=2,
        statistic=0.0,
        threshold=2.0,
        explanation="",
        notes=(),
    )
    return ledger.LedgerEntry(decision, evidence)


def test_a_window_in_which_nothing_was_served_holds_back_no_other(lake: Lake, repo: str) -> None:
    """The nightly check of a lake whose data are of another year must not end its loop."""
    judged = entry(JUNE, JULY, rows=100)
    empty = entry(JUNE.replace(year=2026), JULY.replace(year=2026), rows=0)

    def body(run: Run) -> None:
        for one in (judged, empty):
            ledger.write_entry(run, one)

    pin = commit_once(lake, Job(repo, "monitor", "a" * 64), body).pin
    assert [e.decision.id for e in ledger.read_entries(lake, pin)] == [
        judged.decision.id,
        empty.decision.id,
    ]
    assert [h.id for h in ledger.read_history(lake, pin)] == [judged.decision.id]


def asking(end: datetime, *, rows: int = 100) -> ledger.LedgerEntry:
    """A decision to retrain."""
    quiet = entry(end - timedelta(days=28), end, rows=rows)
    return replace(quiet, decision=replace(quiet.decision, action="retrain", alarm=True))


def monitor(
    lake: Lake, repo: str, *entries: ledger.LedgerEntry, grades: tuple[Grade, ...] = ()
) -> Pin:
    """A monitor's run for each decision; the grades with the last."""
    pin = lake.pin(repo)
    for one in entries:

        def body(run: Run, one: ledger.LedgerEntry = one) -> None:
            ledger.write_entry(run, one)
            for grade in grades if one is entries[-1] else ():
                ledger.write_grade(run, grade)
            run.details.update(decision=one.decision.id)

        pin = commit_once(lake, Job(repo, "monitor", one.decision.id), body).pin
    return pin


def train(lake: Lake, repo: str, decision: str) -> Pin:
    """A training that answered a decision."""

    def body(run: Run) -> None:
        run.put("trained.txt", b"by a training")
        run.details.update(decision=decision)

    return commit_once(lake, Job(repo, "train", "b" * 64), body).pin


def ids(states: list[DecisionState]) -> list[str]:
    return [state.id for state in states]


def test_a_decision_asks_until_a_training_answers_it(lake: Lake, repo: str) -> None:
    one = asking(JULY)
    before = monitor(lake, repo, one)
    after = train(lake, repo, one.decision.id)
    (asks,), (answered,) = read_states(lake, before), read_states(lake, after)
    assert (asks.asks, answered.asks) == (True, False)
    assert asks.decided_at
    assert decided_until(lake, after, one.decision.id) == JULY
    assert ledger.read_decision(lake, after, one.decision.id) == one.decision


def test_a_grade_that_may_change_is_made_again_and_a_final_one_is_not(
    lake: Lake, repo: str
) -> None:
    ends = [JULY + timedelta(days=k) for k in range(4)]
    waits, done, fresh = (asking(end) for end in ends[:3])
    empty = entry(JUNE, JULY, rows=0)
    verdicts = {waits: "ungraded", done: "true-alarm", empty: "ungraded"}
    grades = tuple(Grade(e.decision.id, v, None, v) for e, v in verdicts.items())  # type: ignore[arg-type]
    pin = monitor(lake, repo, waits, done, empty, fresh, grades=grades)
    due = {e.decision.id for e in ledger.read_gradable(lake, pin)}
    assert due == {waits.decision.id, fresh.decision.id}


def test_what_is_kept_at_a_compaction_and_read_since_is_what_the_whole_ledger_says(
    lake: Lake, repo: str
) -> None:
    old = entry(JUNE - timedelta(days=500), JULY - timedelta(days=500), rows=100)
    old_ask = asking(JULY - timedelta(days=400))
    first, second = asking(JULY), asking(JULY + timedelta(days=1))
    monitor(lake, repo, old, old_ask, first, second)
    assert compact(lake, repo, [DECISIONS], enough=1) is not None
    grade = Grade(first.decision.id, "true-alarm", 0.02, "true-alarm")
    monitor(lake, repo, asking(JULY + timedelta(days=2)), grades=(grade,))
    pin = train(lake, repo, second.decision.id)
    stored = DECISIONS.read_stored(lake, pin)
    assert stored is not None
    assert len(stored["decisions"]) == 3
    states = read_states(lake, pin)
    whole = DECISIONS.derive(lake, pin, None)["decisions"]
    assert sorted(ids(states)) == sorted(one["id"] for one in whole)
    assert {s.id: s for s in states} == {one["id"]: DecisionState.from_plain(one) for one in whole}
    # A year old and nothing to do: only the ledger itself has it still.
    assert old.decision.id not in ids(states)
    assert old_ask.decision.id in ids(states)
    assert len(ledger.read_entries(lake, pin)) == 5
