"""Every decision graded once the labels came: was the alarm right, was the silence?"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from flows.monitor.decide import Decision
from flows.monitor.evidence import MonitorEvidence, ReleaseWindow
from flows.monitor.observe import KnownData, measure_advantage
from flows.monitor.rules import MonitorRules

GradeVerdict = Literal["true-alarm", "false-alarm", "missed", "true-quiet", "ungraded"]


@dataclass(frozen=True)
class WindowOutcome:
    """What came to light about a window after it was decided.

    `excess_nats`: the champion's mean log loss above a model freshly fitted to that window's
    past, None while labels are missing; `feed_was_broken`: the owner's finding, None until then.
    """

    labelled_days: int
    excess_nats: float | None
    feed_was_broken: bool | None = None


@dataclass(frozen=True)
class Grade:
    """One more entry of the ledger, beside the decision it grades."""

    decision_id: str
    verdict: GradeVerdict
    excess_nats: float | None
    explanation: str


def grade(decision: Decision, outcome: WindowOutcome, rules: MonitorRules) -> Grade:
    """Compare what was said with what was so. An alarm that was held back is still graded."""
    failing, fact = _find_failure(decision, outcome, rules)
    verdict = _choose_verdict(decision.alarm, failing)
    said = f"alarmed ({decision.witness})" if decision.alarm else "kept quiet"
    return Grade(decision.id, verdict, outcome.excess_nats, f"{verdict}: it {said}, and {fact}.")


def grade_all(
    known: KnownData, decided: Iterable[tuple[Decision, MonitorEvidence]], rules: MonitorRules
) -> list[Grade]:
    """Decisions with what they were made from, by what the champion really lost."""
    return [
        grade(decision, _find_outcome(known, evidence, rules), rules)
        for decision, evidence in decided
    ]


def _find_outcome(
    known: KnownData, evidence: MonitorEvidence, rules: MonitorRules
) -> WindowOutcome:
    """Labels that were there when it was decided, or those that have come since."""
    window, advantage = evidence.window, evidence.advantage
    if advantage is None or window.labelled_rows < rules.labelled_share * window.rows:
        of = ReleaseWindow(evidence.pipeline, evidence.release, window.start, window.end)
        advantage = measure_advantage(known, of, rules) if window.rows else None
    if advantage is None:
        return WindowOutcome(labelled_days=0, excess_nats=None)
    return WindowOutcome(labelled_days=advantage.days, excess_nats=advantage.estimate)


def _find_failure(
    decision: Decision, outcome: WindowOutcome, rules: MonitorRules
) -> tuple[bool | None, str]:
    if decision.level == 1:
        broken = outcome.feed_was_broken
        facts = {None: "nobody has looked at", True: "the owner confirmed", False: "denied"}
        return broken, f"the broken feed is what {facts[broken]}"
    if outcome.excess_nats is None or not outcome.labelled_days:
        return None, "no label has come yet"
    excess, limit = outcome.excess_nats, rules.failure_nats
    fact = (
        f"the champion lost {excess:+.3f} nats a prediction to a fresh model over "
        f"{outcome.labelled_days} labelled days (failure from {limit:g})"
    )
    return excess >= limit, fact


def _choose_verdict(alarm: bool, failing: bool | None) -> GradeVerdict:
    if failing is None:
        return "ungraded"
    if alarm:
        return "true-alarm" if failing else "false-alarm"
    return "missed" if failing else "true-quiet"
