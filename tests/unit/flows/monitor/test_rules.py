from dataclasses import replace

import pytest

from examples.flights.pipeline import pipeline
from flows.errors import Misconfigured
from flows.monitor.rules import MonitorRules


@pytest.mark.parametrize(
    "wrong", [{"checks_per_false_alarm": 1}, {"confirmations": 0}, {"retrain_budget": -1}]
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(Misconfigured, match="out of range"):
        MonitorRules(**wrong)


def test_the_definition_says_how_often_a_check_may_alarm_without_cause():
    rules = MonitorRules.of(replace(pipeline, checks_per_false_alarm=31))
    assert rules == MonitorRules(checks_per_false_alarm=31)
