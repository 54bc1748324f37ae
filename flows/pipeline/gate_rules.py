"""Gates: what a definition demands of a model, and the rules that the trust policy signs."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from flows.errors import Misconfigured
from security.policy.gates import GateResult, GateRule


@dataclass(frozen=True)
class Gate:
    """A bound on a metric; the threshold is a decimal string, as it will be signed.

    With `group_by` the bound is on the widest gap of the metric between two groups of
    that categorical feature. The metrics are listed in flows/gate/measure.py.
    Raises: Misconfigured for another comparator, or a threshold that is no finite decimal.
    """

    metric: str
    comparator: Literal["<=", ">="]
    threshold: str
    group_by: str = ""

    def __post_init__(self) -> None:
        try:
            finite = Decimal(self.threshold).is_finite()
        except InvalidOperation:
            finite = False
        if not finite or self.comparator not in ("<=", ">="):
            raise Misconfigured(
                f"the gate on {self.metric} reads {self.comparator!r} {self.threshold!r}",
                remedy="give <= or >= and a finite decimal number as text",
                code="pipeline.invalid",
            )

    @property
    def id(self) -> str:
        """`roc_auc`, or `roc_auc:gap-by-carrier` for the widest gap between groups."""
        return f"{self.metric}:gap-by-{self.group_by}" if self.group_by else self.metric

    def passes(self, value: str) -> bool:
        """Whether a decimal string is within the bound; what is not finite never is.

        The comparison is that of the signed evidence, which every verifier repeats.
        """
        if not Decimal(value).is_finite():
            return False
        return GateResult(self.id, self.comparator, self.threshold, value).passed


# The candidate may not be worse than what serves now, on rows that neither has seen.
CHAMPION = Gate("log_loss_excess", "<=", "0")


def make_gate_rules(gates: Iterable[Gate]) -> tuple[GateRule, ...]:
    """What the policy demands of a pipeline's model: its gates, and that it is no worse than
    the champion."""
    return tuple(GateRule(gate.id, gate.comparator, gate.threshold) for gate in (*gates, CHAMPION))
