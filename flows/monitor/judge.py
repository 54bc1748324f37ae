"""One window judged inside a run: decided on the newest history, and written to the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.context import Context
from flows.monitor import ledger
from flows.monitor.decide import Decision, decide
from flows.monitor.grade import Grade, grade_all
from flows.monitor.observe import KnownData, Observation
from flows.monitor.rules import MonitorRules
from storage.lake import Pin
from storage.runs import Run
from storage.runs.details import Details


@dataclass(frozen=True, kw_only=True)
class MonitorDetails(Details):
    """What a monitor run's record says: what it decided, and why.

    `window`: start and end of the days judged, as ISO 8601.
    """

    decision: str
    action: str
    release: str
    witness: str
    window: tuple[str, ...]
    explanation: str


def grade_due(context: Context, data: Pin, rules: MonitorRules) -> list[Grade]:
    """Grades of earlier decisions whose labels may have come since, by what the pin holds."""
    due = ledger.read_gradable(context.lake, data)
    if not due:
        return []
    decided = [(entry.decision, entry.evidence) for entry in due]
    return grade_all(KnownData.at(context, data), decided, rules)


def judge(
    run: Run, observed: Observation, grades: Sequence[Grade], rules: MonitorRules
) -> Decision:
    """Decide on the history that the run begins from; put decision, evidence and grades there.

    Raises: Conflict if the ledger has the decision already.
    """
    decision = decide(observed.evidence, rules, ledger.read_history(run.lake, run.base))
    ledger.write_entry(run, ledger.LedgerEntry(decision, observed.evidence))
    for one in grades:
        ledger.write_grade(run, one)
    lines = b"\n".join(day.to_json() for day in observed.served.days.values())
    run.put(f"sketches/{decision.id}.jsonl", lines)
    _describe(run, decision, observed)
    return decision


def _describe(run: Run, decision: Decision, observed: Observation) -> None:
    evidence = observed.evidence
    run.counts.update(served=evidence.window.rows, labelled=evidence.window.labelled_rows)
    for who, found in (("champion", evidence.measured), ("challenger", evidence.challenger)):
        if found:
            run.metrics[f"{who}:log_loss"] = found.log_loss
            if found.roc_auc is not None:
                run.metrics[f"{who}:roc_auc"] = found.roc_auc
    run.describe(
        MonitorDetails(
            decision=decision.id,
            action=decision.action,
            release=decision.release,
            witness=decision.witness,
            window=(decision.window_start.isoformat(), decision.window_end.isoformat()),
            explanation=decision.explanation,
        )
    )
