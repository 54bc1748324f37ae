"""What the ledger tells the next decision."""

from datetime import UTC, datetime

from flows.monitor import ledger
from flows.monitor.decide import Decision, decision_id
from flows.monitor.evidence import MonitorEvidence, Window
from storage.lake import Lake
from storage.runs import Job, Run, commit_once

JUNE, JULY = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)


def entry(start: datetime, end: datetime, *, rows: int) -> ledger.Entry:
    evidence = MonitorEvidence(
        pipeline="flights",
        release="flights/1",
        window=Window(start, end, rows=rows, labelled_rows=rows),
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
        id=decision_id(evidence),
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
    return ledger.Entry(decision, evidence)


def test_a_window_in_which_nothing_was_served_holds_back_no_other(lake: Lake, repo: str) -> None:
    """The nightly check of a lake whose data are of another year must not end its loop."""
    judged = entry(JUNE, JULY, rows=100)
    empty = entry(JUNE.replace(year=2026), JULY.replace(year=2026), rows=0)

    def body(run: Run) -> None:
        for one in (judged, empty):
            ledger.write(run, one)

    pin = commit_once(lake, Job(repo, "monitor", "a" * 64), body).pin
    assert [e.decision.id for e in ledger.entries(lake, pin)] == [
        judged.decision.id,
        empty.decision.id,
    ]
    assert [h.id for h in ledger.history(lake, pin)] == [judged.decision.id]
