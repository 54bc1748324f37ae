"""From evidence to a decision: a pure function, so that anyone can decide it again.

Time is event time, the window's end: a replayed year decides as it did live, and a wrong
clock changes nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flows.ledger import DecisionState
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.findings import Action, Finding, find_blocking_breaches, find_reason
from flows.monitor.rules import MonitorRules
from flows.profile.record import canonical_json


@dataclass(frozen=True)
class Decision:
    """What to do about one release after one window, as the trigger ledger holds it.

    `alarm` tells whether the evidence asked for something, also where history held it back:
    then `action` is none and `reason` says what held it. `statistic` and `threshold` are those
    of the witness named by `witness` (a t, or a share of rows at level 1).
    """

    id: str
    pipeline: str
    release: str
    window_start: datetime
    window_end: datetime
    evidence_digest: str
    action: Action
    reason: str
    alarm: bool
    witness: str
    level: int
    statistic: float
    threshold: float
    explanation: str
    notes: tuple[str, ...]


def decide(
    evidence: MonitorEvidence, rules: MonitorRules, history: Sequence[DecisionState] = ()
) -> Decision:
    """What to do about one window, given what was done before.

    `history` may come in any order. The same evidence has the same id, whatever the history.
    """
    finding = find_reason(evidence, rules)
    held = _hold_back(evidence, rules, history) if finding.action == "retrain" else None
    reason, why = held or (finding.reason, "")
    return Decision(
        id=make_decision_id(evidence),
        pipeline=evidence.pipeline,
        release=evidence.release,
        window_start=evidence.window.start,
        window_end=evidence.window.end,
        evidence_digest=evidence.digest,
        action="none" if held else finding.action,
        reason=reason,
        alarm=finding.alarms,
        witness=finding.reason,
        level=finding.level,
        statistic=finding.statistic,
        threshold=finding.threshold,
        explanation=f"{finding.explanation} {why}".strip(),
        notes=_write_notes(evidence, rules, finding),
    )


def make_decision_id(evidence: MonitorEvidence) -> str:
    """SHA-256 over pipeline, window, release and evidence: one decision, one retraining."""
    window = [t.astimezone(UTC).isoformat() for t in (evidence.window.start, evidence.window.end)]
    named = [evidence.pipeline, window, evidence.release, evidence.digest]
    return hashlib.sha256(canonical_json(named)).hexdigest()


def _hold_back(
    evidence: MonitorEvidence,
    rules: MonitorRules,
    history: Sequence[DecisionState],
) -> tuple[str, str] | None:
    """What holds a retraining back, and the sentence for it; None lets it go."""
    end = evidence.window.end
    past = [h for h in history if h.id != make_decision_id(evidence)]
    if any(h.window_end > end for h in past):
        return "superseded", "Held: a later window has been decided."
    if (seen := 1 + _count_alarms_before(past, evidence)) < rules.confirmations:
        return "debounce", f"Held: alarm {seen} of {rules.confirmations} needed in a row."
    retrains = [h for h in past if h.action == "retrain"]
    if any(_is_in_flight(h, end, rules.flight_deadline) for h in retrains):
        return "single-flight", "Held: a retraining is under way."
    if any(end - h.window_end < rules.cool_down for h in retrains):
        return (
            "cool-down",
            f"Held: the last retraining is less than {_name_days(rules.cool_down)} old.",
        )
    recent = sum(end - h.window_end < rules.budget_period for h in retrains)
    if recent >= rules.retrain_budget:
        return (
            "budget",
            f"Held: {recent} retrainings in {_name_days(rules.budget_period)} is the budget.",
        )
    return None


def _count_alarms_before(past: Sequence[DecisionState], evidence: MonitorEvidence) -> int:
    """Windows in a row, up to this one, in which this release alarmed for a retraining."""
    windows: dict[datetime, bool] = {}
    for h in past:
        if h.release == evidence.release and h.window_end < evidence.window.end:
            alarmed = h.alarm and h.level > 1
            windows[h.window_end] = windows.get(h.window_end, False) or alarmed
    count = 0
    for _, alarmed in sorted(windows.items(), reverse=True):
        if not alarmed:
            break
        count += 1
    return count


def _is_in_flight(past: DecisionState, end: datetime, deadline: timedelta) -> bool:
    return past.asks and end - past.window_end < deadline


def _name_days(period: timedelta) -> str:
    return f"{period / timedelta(days=1):g} days"


def _write_notes(
    evidence: MonitorEvidence, rules: MonitorRules, finding: Finding
) -> tuple[str, ...]:
    """What does not decide but helps a person: caution, features that moved, the forecast."""
    notes = [finding.caution] if finding.caution else []
    blocking = find_blocking_breaches(evidence, rules)
    if mended := sorted({f"{b.column} on {b.day}" for b in evidence.breaches if b not in blocking}):
        more = f" and {len(mended) - 3} more" if len(mended) > 3 else ""
        notes.append(f"Earlier breaches, which no longer block: {', '.join(mended[:3])}{more}.")
    if evidence.drift:
        moved = ", ".join(f"{d.column} (PSI {d.psi:.2f})" for d in evidence.drift[:3])
        notes.append(f"Features that moved most, as an explanation only: {moved}.")
    if (trend := evidence.forecast) and trend.days_to_margin is not None:
        notes.append(
            f"Forecast, which informs only: excess loss {trend.excess_now:.3f} nats grows by "
            f"{trend.slope:.4f} a day and reaches {trend.margin:g} in {trend.days_to_margin:.0f} "
            "days."
        )
    return tuple(notes)
