"""Gates: what a policy demands of a metric, what was measured, and whether that is enough.

The evidence is an in-toto test-result statement about the payload's digests; its verdict is
derived from its values, so a failed gate cannot be relabelled.
Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md (v0.1).
"""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, InvalidOperation
from decimal import Context as DecimalContext
from decimal import Decimal as Number
from typing import Any, Literal

from security.errors import Untrusted
from security.formats.intoto import Statement, parse_statement
from security.formats.strict_json import (
    DECIMAL,
    Decimal,
    Identifier,
    Name,
    Sha256,
    Size,
    from_json,
    to_json,
)

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"

Comparator = Literal["<=", ">=", "<", ">"]
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class GateRule:
    """What the policy demands: `metric comparator bound`, say `log_loss <= 0.45`."""

    metric: Identifier
    comparator: Comparator
    bound: Decimal


@dataclass(frozen=True)
class GateResult:
    """What was measured, and the threshold it was judged by. Numbers are decimal text."""

    metric: Identifier
    comparator: Comparator
    threshold: Decimal
    value: Decimal

    @property
    def passed(self) -> bool:
        """Whether the value meets the threshold that stands beside it."""
        return _meets(self.value, self.comparator, self.threshold)

    def __str__(self) -> str:
        return f"{self.metric} = {self.value}, required {self.comparator} {self.threshold}"


@dataclass(frozen=True)
class GateEvidence:
    """The gatekeeper's finding about one model's payload, under the rules of one digest.

    `against` is the release digest of the champion it was compared with, None for the base rate;
    `rows` are counts of what it was judged on, `build_sha256` is the digest of the build whose
    claims the gatekeeper found to hold: evidence is about no other origin of the same files.
    """

    model: Name
    policy_sha256: Sha256
    results: tuple[GateResult, ...]
    against: Sha256 | None = None
    rows: Mapping[Name, Size] | None = None
    build_sha256: Sha256 | None = None

    def to_statement(self, subjects: Mapping[str, str]) -> Statement:
        """The test-result statement about `subjects` (file name to SHA-256)."""
        return Statement(subjects, TEST_RESULT, _make_predicate(self))


def parse_evidence(payload: bytes) -> tuple[GateEvidence, Mapping[str, str]]:
    """Read verified bytes as gate evidence and the subjects it speaks of.

    Raises: Untrusted if the verdict is not the one its values give.
    """
    statement = parse_statement(payload, predicate_type=TEST_RESULT)
    evidence = from_json(GateEvidence, statement.predicate.get("headrace_gates"), "gates")
    if _make_predicate(evidence) != statement.predicate:
        raise Untrusted(
            "the gate evidence does not say what its own values say", code="trust.contradictory"
        )
    if len({result.metric for result in evidence.results}) != len(evidence.results):
        raise Untrusted("the gate evidence measures one metric twice", code="trust.contradictory")
    return evidence, statement.subjects


def find_shortfalls(rules: Collection[GateRule], results: Collection[GateResult]) -> list[str]:
    """Why `results` do not satisfy `rules`; empty if they do. No rule at all is a shortfall."""
    if not rules:
        return ["the policy sets no gate for this model"]
    measured = {result.metric: result for result in results}
    own = [f"{result}" for result in results if not result.passed]
    return own + [
        reason for rule in rules if (reason := _find_shortfall(rule, measured.get(rule.metric)))
    ]


def format_decimal(value: float | int | str) -> str:
    """`value` as plain decimal text that reads back exactly (39 decimals at most).

    Raises: Untrusted for NaN, infinities and numbers of more than 40 digits.
    """
    try:
        number = Number(repr(value) if isinstance(value, float) else str(value))
        if number.is_finite() and number.as_tuple().exponent < -39:  # type: ignore[operator]
            number = number.quantize(Number(1).scaleb(-39), context=_WIDE)
        text = format(number, "f")
    except InvalidOperation:
        raise Untrusted(
            f"{value!r} is not a number that evidence can hold", code="trust.malformed"
        ) from None
    DECIMAL.check(text, f"{value!r}")
    return text


_WIDE = DecimalContext(prec=90, rounding=ROUND_HALF_EVEN)


def _find_shortfall(rule: GateRule, result: GateResult | None) -> str:
    if result is None or result.comparator != rule.comparator:
        return f"there is no evidence for {rule.metric} {rule.comparator} {rule.bound}"
    if not _meets(result.threshold, rule.comparator.rstrip("=") + "=", rule.bound):
        return f"{rule.metric} was judged by {result.threshold}, weaker than {rule.bound}"
    if not _meets(result.value, rule.comparator, rule.bound):
        return f"{rule.metric} = {result.value}, required {rule.comparator} {rule.bound}"
    return ""


def _meets(value: str, comparator: str, bound: str) -> bool:
    return bool(_COMPARE[comparator](Number(value), Number(bound)))


def _make_predicate(evidence: GateEvidence) -> dict[str, Any]:
    passed = [result.metric for result in evidence.results if result.passed]
    failed = [result.metric for result in evidence.results if not result.passed]
    return {
        "result": "FAILED" if failed or not passed else "PASSED",
        "configuration": [{"name": "rules", "digest": {"sha256": evidence.policy_sha256}}],
        "passedTests": passed,
        "warnedTests": [],
        "failedTests": failed,
        "headrace_gates": to_json(evidence),
    }
