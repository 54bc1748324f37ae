from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import Misconfigured
from flows.pipeline import Gate
from flows.pipeline.gate_rules import make_gate_rules
from security.policy.gates import GateResult, GateRule

DECIMALS = st.decimals(-1000, 1000, places=9).map(lambda number: format(number, "f"))


@pytest.mark.parametrize(
    ("comparator", "value", "passes"),
    [
        ("<=", "0.1", True),
        ("<=", "0.10000000000000000001", False),
        (">=", "0.1", True),
        (">=", "0.0999999999", False),
        ("<=", "NaN", False),
        (">=", "NaN", False),
        (">=", "Infinity", False),
    ],
)
def test_a_gate_compares_decimals_exactly_and_fails_closed(comparator, value, passes):
    assert Gate("log_loss", comparator, "0.1").passes(value) is passes


@pytest.mark.parametrize(("comparator", "threshold"), [("<", "1"), ("<=", "NaN"), ("<=", "one")])
def test_a_gate_that_cannot_be_judged_is_refused(comparator, threshold):
    with pytest.raises(Misconfigured, match="the gate on log_loss"):
        Gate("log_loss", comparator, threshold)


@given(DECIMALS, DECIMALS, st.sampled_from(["<=", ">="]))
def test_a_gate_passes_what_the_signed_evidence_passes(value, threshold, comparator):
    within = Decimal(value) <= Decimal(threshold)
    passes = Gate("brier", comparator, threshold).passes(value)
    assert passes is GateResult("brier", comparator, threshold, value).passed
    assert passes is (
        within if comparator == "<=" else Decimal(value) == Decimal(threshold) or not within
    )


def test_the_policy_demands_every_gate_and_that_the_champion_is_no_better():
    gates = (Gate("roc_auc", ">=", "0.7"), Gate("roc_auc", "<=", "0.1", group_by="carrier"))
    assert make_gate_rules(gates) == (
        GateRule("roc_auc", ">=", "0.7"),
        GateRule("roc_auc:gap-by-carrier", "<=", "0.1"),
        GateRule("log_loss_excess", "<=", "0"),
    )
