"""A pipeline's gates as the rules that the trust policy signs and every verifier re-evaluates."""

from collections.abc import Iterable

from flows.gate.gates import CHAMPION, Evidence
from flows.pipeline import Gate, Pipeline
from security.policy.gates import GateRule


def gate_rules(pipeline: Pipeline) -> tuple[GateRule, ...]:
    """What the policy demands of the pipeline's model: its own bounds, and the champion's."""
    return tuple(
        GateRule(metric_id(gate), gate.comparator, gate.threshold)
        for gate in (*pipeline.gates, CHAMPION)
    )


def measured(evidence: Iterable[Evidence]) -> dict[str, str]:
    """Metric id to decimal string, as the gatekeeper signs it."""
    return {metric_id(one): one.value for one in evidence}


def metric_id(gate: Gate | Evidence) -> str:
    """`roc_auc`, or `roc_auc:gap-by-carrier` for the widest gap between groups."""
    return f"{gate.metric}:gap-by-{gate.group_by}" if gate.group_by else gate.metric
