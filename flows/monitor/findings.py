"""The three levels, read in order: what the evidence alone says, before history holds it back.

Level 1, contracts: a broken feed is mended, never trained on. Level 2, performance on day
means: the best-informed witness decides (a challenger on the same rows, else measured loss
and calibration, else CBPE before labels). Level 3, drift: explains; it alarms only while no
label has come, and only through day means.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import Literal

from flows.monitor.evidence import MonitorEvidence
from flows.monitor.feature_checks import Breach
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import DayTest, alarm_above

Action = Literal["none", "retrain", "fix-feed", "insufficient"]

CBPE_CAUTION = (
    "Too few labels have come for this window: estimated from scores and features alone, "
    "which cannot see the meaning of the features change (concept drift)."
)


@dataclass(frozen=True)
class Finding:
    """What one witness says. `level` is that of the witness, whether it alarms or not."""

    action: Action
    reason: str
    level: int
    statistic: float
    threshold: float
    explanation: str
    caution: str = ""

    @property
    def alarms(self) -> bool:
        """Does something ask to be done?"""
        return self.action in ("retrain", "fix-feed")


@dataclass(frozen=True)
class _Question:
    """A test, what it would mean, and the estimate below which it would not matter."""

    reason: str
    level: int
    test: DayTest
    sentence: str
    material: float = 0.0
    sides: int = 1
    caution: str = ""


def find_reason(evidence: MonitorEvidence, rules: MonitorRules) -> Finding:
    """The finding of the first level that alarms, else of the witness that decides."""
    if blocking := find_blocking_breaches(evidence, rules):
        return _report_feed(blocking)
    if not evidence.window.rows:
        return _report_nothing(
            "empty-window", "No prediction falls into the window: nothing to judge."
        )
    questions = _ask(evidence, rules)
    if not questions:
        return _report_nothing(
            "too-few-days", "Too few days with values to test: nothing to judge."
        )
    answers = [_answer(q, rules, len(questions)) for q in questions]
    return max(answers, key=lambda a: (a.alarms, a.statistic / a.threshold))


def find_blocking_breaches(evidence: MonitorEvidence, rules: MonitorRules) -> tuple[Breach, ...]:
    """Breaches late enough in the window to block: one bad day must not block for a month."""
    since = (evidence.window.end - rules.feed_memory).astimezone(UTC).date().isoformat()
    return tuple(breach for breach in evidence.breaches if breach.day >= since)


def _ask(evidence: MonitorEvidence, rules: MonitorRules) -> list[_Question]:
    window = evidence.window
    if window.labelled_rows >= rules.labelled_share * window.rows:
        questions = _ask_challenger(evidence, rules) or _ask_labels(evidence, rules)
        if questions:
            return questions
    return _ask_without_labels(evidence, rules)


def _ask_challenger(evidence: MonitorEvidence, rules: MonitorRules) -> list[_Question]:
    test = evidence.advantage
    if test is None:
        return []
    verb = "loses" if test.estimate >= 0 else "gains"
    sentence = (
        f"Champion {evidence.release} {verb} {abs(test.estimate):.3f} nats a prediction to a "
        f"fresh challenger, on the mean of {test.days} days"
    )
    if test.estimate < 0:
        sentence = sentence.replace(" to a ", " on a ")
    return [_Question("challenger-advantage", 2, test, sentence, rules.material_nats)]


def _ask_labels(evidence: MonitorEvidence, rules: MonitorRules) -> list[_Question]:
    questions = []
    if rise := evidence.loss_rise:
        sentence = (
            f"Log loss of {evidence.release} is {rise.estimate:+.3f} nats a prediction from its "
            f"own holdout's, over {rise.days} days"
        )
        questions.append(_Question("degradation", 2, rise, sentence, rules.material_nats))
    if bias := evidence.bias:
        sentence = (
            f"Outcomes of {evidence.release} differ by {bias.estimate:+.3f} from its scores, "
            f"over {bias.days} days"
        )
        questions.append(_Question("calibration", 2, bias, sentence, rules.material_bias, sides=2))
    return questions


def _ask_without_labels(evidence: MonitorEvidence, rules: MonitorRules) -> list[_Question]:
    questions = []
    if rise := evidence.estimated_rise:
        sentence = (
            f"Log loss of {evidence.release}, estimated before labels, is {rise.estimate:+.3f} "
            f"nats a prediction from its own holdout's, over {rise.days} days"
        )
        questions.append(
            _Question(
                "estimated-degradation", 2, rise, sentence, rules.material_nats, 1, CBPE_CAUTION
            )
        )
    for move in evidence.drift:
        if move.test is not None:
            by = (
                f"{move.shift_sd:+.2f} sd"
                if move.shift_sd is not None
                else (f"{move.test.estimate:+.3f} {move.test.unit}")
            )
            sentence = (
                f"Feature {move.column} of {evidence.release} moved {by} from its training days, "
                f"over {move.test.days} days"
            )
            questions.append(
                _Question("drift", 3, move.test, sentence, sides=2, caution=CBPE_CAUTION)
            )
    return questions


def _answer(question: _Question, rules: MonitorRules, tests: int) -> Finding:
    threshold = alarm_above(
        question.test.dof,
        checks_per_false_alarm=rules.checks_per_false_alarm,
        tests=tests,
        sides=question.sides,
    )
    statistic, estimate = question.test.t, question.test.estimate
    if question.sides == 2:
        statistic, estimate = abs(statistic), abs(estimate)
    alarms = statistic > threshold and estimate >= question.material
    return Finding(
        "retrain" if alarms else "none",
        question.reason if alarms else "no-alarm",
        question.level,
        statistic,
        threshold,
        _write_sentence(question, statistic, threshold, estimate, rules),
        question.caution,
    )


def _write_sentence(
    question: _Question, statistic: float, threshold: float, estimate: float, rules: MonitorRules
) -> str:
    sign = "|t|" if question.sides == 2 else "t"
    text = (
        f"{question.sentence} ({sign} = {statistic:.1f}, alarm above {threshold:.1f}: about one "
        f"false alarm in {rules.checks_per_false_alarm} checks"
    )
    if statistic > threshold and estimate < question.material:
        return f"{text}), but less than {question.material:g} is not worth a release."
    return f"{text})."


def _report_feed(found: tuple[Breach, ...]) -> Finding:
    worst = found[0]
    columns = sorted({breach.column for breach in found})
    others = f"; also {', '.join(c for c in columns if c != worst.column)}" if columns[1:] else ""
    examples = f" (such as {worst.examples})" if worst.examples else ""
    explanation = (
        f"Feature {worst.column} broke its {worst.rule} contract on {worst.day}: "
        f"{worst.observed:.1%} of rows{examples}, at most {worst.limit:.1%} allowed{others}. "
        "Mend the feed: retraining on it would not help."
    )
    return Finding("fix-feed", worst.rule, 1, worst.observed, worst.limit, explanation)


def _report_nothing(reason: str, explanation: str) -> Finding:
    return Finding("insufficient", reason, 0, 0.0, 0.0, explanation)
