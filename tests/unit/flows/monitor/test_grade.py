"""Grades that come later: was the alarm right, was the silence?"""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from flows.monitor.decide import decide
from flows.monitor.grade import WindowOutcome, grade
from tests.unit.flows.monitor.worlds import RULES, even_challenger, evidence, world

QUIET = evidence(world(challenger=even_challenger))
ALARM = evidence(world(bias=0.1, challenger=even_challenger))
BROKEN = evidence(
    world(challenger=even_challenger).with_columns(
        wind=pl.when(pl.col("day") != date(2013, 5, 30)).then("wind")
    )
)


@pytest.mark.parametrize(
    ("found", "excess", "verdict"),
    [
        (ALARM, 0.02, "true-alarm"),
        (ALARM, 0.01, "false-alarm"),
        (QUIET, 0.02, "missed"),
        (QUIET, 0.01, "true-quiet"),
        (ALARM, None, "ungraded"),
    ],
)
def test_a_decision_is_graded_by_what_labels_showed(found, excess, verdict):
    graded = grade(decide(found, RULES), WindowOutcome(14, excess), RULES)
    assert graded.verdict == verdict
    assert graded.explanation.startswith(verdict)


def test_an_alarm_that_was_held_back_is_graded_all_the_same():
    held = decide(ALARM, replace(RULES, retrain_budget=0))
    assert held.reason == "budget"
    assert grade(held, WindowOutcome(14, 0.03), RULES).verdict == "true-alarm"


@pytest.mark.parametrize(
    ("broken", "verdict"), [(True, "true-alarm"), (False, "false-alarm"), (None, "ungraded")]
)
def test_a_broken_feed_is_graded_by_its_owner(broken, verdict):
    decision = decide(BROKEN, RULES)
    assert decision.action == "fix-feed"
    assert grade(decision, WindowOutcome(14, 0.5, broken), RULES).verdict == verdict
