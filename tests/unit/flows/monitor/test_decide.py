"""Decisions: three levels in order, history that holds back, grades that come later."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from flows.errors import ContractBroken, Misconfigured
from flows.monitor.contracts import Breach
from flows.monitor.decide import Decision, PastDecision, decide
from flows.monitor.drift import ColumnDrift
from flows.monitor.evidence import MonitorEvidence, Window
from flows.monitor.forecast import Forecast
from flows.monitor.grade import Grade, Outcome, grade
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import DayTest, alarm_above
from flows.profile.record import decode, encode

END = datetime(2013, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = MonitorRules()


def nats(estimate, t, unit="nats a prediction"):
    return DayTest(estimate, abs(estimate / t), 30.0, 28, 0, unit)


STALE, EVEN = nats(0.021, 5.8), nats(0.001, 0.4)
QUIET = MonitorEvidence(
    pipeline="flights", release="flights/1", window=Window(END - 28 * DAY, END, 28_000, 28_000),
    breaches=(), drift=(), measured=None, challenger=None, estimated=None,
    advantage=EVEN, loss_rise=None, bias=None, estimated_rise=None, forecast=None,
)  # fmt: skip
ALARM = replace(QUIET, advantage=STALE)
UNLABELLED = replace(QUIET.window, labelled_rows=1000)


def moved(column, estimate, t):
    return ColumnDrift(column, 0.3, 0.2, 0.1, 0.2, estimate, nats(estimate, t, "column's unit"))


def past(decision, *, run="finished", ago=0 * DAY):
    return replace(PastDecision.of(decision, run=run), id=f"past{ago}", window_end=END - ago)


def test_a_stale_champion_is_retrained_and_the_reason_is_a_sentence_with_numbers():
    decision = decide(ALARM, RULES)
    assert (decision.action, decision.reason, decision.level) == (
        "retrain", "challenger-advantage", 2,
    )  # fmt: skip
    assert decision.explanation == (
        "Champion flights/1 loses 0.021 nats a prediction to a fresh challenger, on the mean of "
        "28 days (t = 5.8, alarm above 2.7: about one false alarm in 200 checks)."
    )
    assert decision.threshold == pytest.approx(alarm_above(30.0, checks_per_false_alarm=200))


def test_an_even_challenger_changes_nothing():
    decision = decide(QUIET, RULES)
    assert (decision.action, decision.reason, decision.alarm) == ("none", "no-alarm", False)


def test_a_sure_but_trifling_advantage_is_not_worth_a_release():
    decision = decide(replace(QUIET, advantage=nats(0.001, 9.0)), RULES)
    assert (decision.action, decision.alarm) == ("none", False)
    assert "not worth a release" in decision.explanation


def test_a_losing_challenger_never_alarms_however_sure():
    decision = decide(replace(QUIET, advantage=nats(-0.05, -20.0)), RULES)
    assert decision.action == "none"
    assert "gains 0.050 nats a prediction on a fresh challenger" in decision.explanation


def test_a_broken_feed_is_mended_not_trained_on():
    breach = Breach("wind", "missing-jump", "2013-05-30", 0.4, 0.06)
    decision = decide(replace(ALARM, breaches=(breach,)), RULES)
    assert (decision.action, decision.reason, decision.level) == ("fix-feed", "missing-jump", 1)
    assert "wind" in decision.explanation
    assert "40.0% of rows, at most 6.0% allowed" in decision.explanation


def test_a_feed_mended_a_week_ago_is_noted_and_blocks_no_more():
    bad = [Breach(f"c{i}", "missing-jump", "2013-05-24", 0.4, 0.06) for i in range(5)]
    decision = decide(replace(ALARM, breaches=tuple(bad)), RULES)
    assert decision.action == "retrain"
    assert decision.notes[0].endswith(
        "no longer block: c0 on 2013-05-24, c1 on 2013-05-24, c2 on 2013-05-24 and 2 more."
    )
    standing = replace(bad[0], day="2013-05-25")
    assert decide(replace(ALARM, breaches=(*bad, standing)), RULES).action == "fix-feed"


def test_an_empty_window_and_one_without_tests_are_insufficient():
    empty = replace(QUIET, window=replace(QUIET.window, rows=0, labelled_rows=0))
    assert decide(empty, RULES).reason == "empty-window"
    mute = decide(replace(QUIET, advantage=None), RULES)
    assert (mute.action, mute.reason) == ("insufficient", "too-few-days")


def test_a_challenger_outweighs_a_harder_season_and_moved_features():
    season = replace(QUIET, loss_rise=nats(0.1, 12.0), drift=(moved("temp", 2.0, 15.0),))
    decision = decide(season, RULES)
    assert decision.action == "none"
    assert any("temp (PSI 0.30)" in note for note in decision.notes)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [({"loss_rise": nats(0.05, 8.0)}, "degradation"), ({"bias": nats(-0.06, -8.0)}, "calibration")],
)
def test_without_a_challenger_measured_loss_and_calibration_decide(evidence, reason):
    decision = decide(replace(QUIET, advantage=None, **evidence), RULES)
    assert (decision.action, decision.reason, decision.level) == ("retrain", reason, 2)


def test_measured_performance_that_holds_silences_drift():
    held = replace(QUIET, advantage=None, loss_rise=EVEN, drift=(moved("temp", 2.0, 15.0),))
    assert decide(held, RULES).action == "none"


def test_before_labels_estimates_and_drift_decide_with_a_caution():
    waiting = replace(ALARM, window=UNLABELLED)
    estimated = decide(replace(waiting, estimated_rise=nats(0.04, 7.0)), RULES)
    drifting = decide(replace(waiting, drift=(moved("load", 0.4, -7.0),)), RULES)
    assert (estimated.reason, estimated.level) == ("estimated-degradation", 2)
    assert (drifting.reason, drifting.level) == ("drift", 3)
    for decision in (estimated, drifting):
        assert decision.action == "retrain"
        assert "concept drift" in decision.notes[0]


def test_many_features_share_one_false_alarm_rate():
    alone = replace(QUIET, window=UNLABELLED, drift=(moved("a", 0.1, 3.5),))
    crowd = replace(alone, drift=alone.drift + tuple(moved(f"b{i}", 0.1, 0.1) for i in range(40)))
    assert decide(alone, RULES).action == "retrain"
    assert decide(crowd, RULES).action == "none"
    assert decide(crowd, RULES).threshold > decide(alone, RULES).threshold


def test_the_forecast_informs_and_never_alarms():
    trend = Forecast(0.01, 0.0005, 0.0002, 0.0008, 0.015, 10.0)
    decision = decide(replace(QUIET, forecast=trend), RULES)
    assert decision.action == "none"
    assert "reaches 0.015 in 10 days" in decision.notes[0]


def test_debounce_waits_for_alarms_in_a_row():
    rules = replace(RULES, confirmations=3)
    alarm, quiet = decide(ALARM, rules), decide(QUIET, rules)
    assert (alarm.action, alarm.reason, alarm.alarm) == ("none", "debounce", True)
    two = [past(alarm, run="none", ago=k * DAY) for k in (1, 2)]
    assert decide(ALARM, rules, two).action == "retrain"
    broken_row = [
        two[0],
        past(quiet, run="none", ago=2 * DAY),
        past(alarm, run="none", ago=3 * DAY),
    ]
    assert decide(ALARM, rules, broken_row).reason == "debounce"
    same_window_twice = [past(alarm, run="none", ago=DAY), past(alarm, run="none", ago=DAY)]
    assert decide(ALARM, rules, same_window_twice).reason == "debounce"
    other_release = [replace(h, release="flights/0") for h in two]
    assert decide(ALARM, rules, other_release).reason == "debounce"


@pytest.mark.parametrize(
    ("ago", "run", "held"),
    [
        (1 * DAY, "running", "single-flight"),
        (1 * DAY, "waiting", "single-flight"),
        (1 * DAY, "finished", "cool-down"),
        (3 * DAY, "running", "cool-down"),
        (7 * DAY, "finished", None),
        (8 * DAY, "running", None),
        (-1 * DAY, "finished", "superseded"),
    ],
)
def test_an_earlier_retraining_holds_the_next_back_for_a_while(ago, run, held):
    decision = decide(ALARM, RULES, [past(decide(ALARM, RULES), run=run, ago=ago)])
    assert decision.reason == (held or "challenger-advantage")
    assert decision.action == ("none" if held else "retrain")
    assert decision.alarm
    assert decision.witness == "challenger-advantage"


def test_a_spent_budget_holds_back_and_says_so():
    first = decide(ALARM, RULES)
    history = [past(first, ago=k * 10 * DAY) for k in range(1, 5)]
    held = decide(ALARM, RULES, history)
    assert (held.action, held.reason) == ("none", "budget")
    assert held.explanation.endswith("Held: 4 retrainings in 90 days is the budget.")
    assert decide(ALARM, RULES, history[:3]).action == "retrain"


def test_a_broken_feed_is_reported_whatever_history_says():
    breach = Breach("wind", "range", "2013-05-30", 0.4, 0.06)
    running = [past(decide(ALARM, RULES), run="running", ago=DAY)]
    assert decide(replace(ALARM, breaches=(breach,)), RULES, running).action == "fix-feed"


def test_the_id_comes_from_the_evidence_not_from_history_or_the_time_zone():
    first = decide(ALARM, RULES)
    elsewhere = timezone(timedelta(hours=-5))
    window = replace(
        ALARM.window,
        start=ALARM.window.start.astimezone(elsewhere),
        end=ALARM.window.end.astimezone(elsewhere),
    )
    assert decide(ALARM, RULES, [past(first, ago=DAY)]).id == first.id
    assert decide(replace(ALARM, window=window), RULES).id == first.id
    changed = [
        replace(ALARM, pipeline="x"),
        replace(ALARM, release="flights/2"),
        replace(ALARM, advantage=nats(0.0211, 5.8)),
        replace(ALARM, window=replace(ALARM.window, end=END + DAY)),
    ]
    assert len({first.id, *(decide(e, RULES).id for e in changed)}) == 5


def test_deciding_again_after_its_own_entry_gives_the_same_answer():
    first = decide(ALARM, RULES)
    assert decide(ALARM, RULES, [PastDecision.of(first, run="running")]) == first


def test_evidence_decision_and_grade_survive_their_json():
    trend = Forecast(0.01, 0.0005, 0.0002, 0.0008, 0.015, None)
    breach = Breach("wind", "range", "2013-05-30", 0.4, 0.06)
    evidence = replace(ALARM, breaches=(breach,), drift=(moved("a", 0.1, 3.5),), forecast=trend)
    decision = decide(evidence, RULES)
    graded = grade(decision, Outcome(28, 0.02, feed_was_broken=True), RULES)
    for kind, record in ((MonitorEvidence, evidence), (Decision, decision), (Grade, graded)):
        payload = encode(record)
        assert decode(kind, payload) == record
        assert encode(decode(kind, payload)) == payload


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[:-1],
        lambda b: b.replace(b'"level":2', b'"level":"2"'),
        lambda b: b.replace(b'"action":"retrain"', b'"action":"rm"'),
        lambda b: b.replace(b'"alarm":true', b'"alarm":1'),
        lambda b: b.replace(b'"level":2', b'"level":2,"level":2'),
        lambda b: b.replace(b'"level":2', b'"level":2,"extra":1'),
        lambda b: b.replace(b'"statistic":"', b'"statistic":"nan'),
        lambda b: b"[" * 100_000,
    ],
)
def test_a_spoilt_ledger_entry_is_refused(spoil):
    payload = encode(decide(ALARM, RULES))
    spoilt = spoil(payload)
    assert spoilt != payload
    with pytest.raises(ContractBroken):
        decode(Decision, spoilt)


def test_a_window_without_a_time_zone_and_rules_out_of_range_are_refused():
    with pytest.raises(Misconfigured):
        Window(datetime(2013, 5, 1), END, 0, 0)
    with pytest.raises(Misconfigured):
        MonitorRules(checks_per_false_alarm=1)


@pytest.mark.parametrize(
    ("evidence", "excess", "verdict"),
    [
        (ALARM, 0.02, "true-alarm"),
        (ALARM, 0.01, "false-alarm"),
        (QUIET, 0.02, "missed"),
        (QUIET, 0.01, "true-quiet"),
        (ALARM, None, "ungraded"),
    ],
)
def test_a_decision_is_graded_by_what_labels_showed(evidence, excess, verdict):
    graded = grade(decide(evidence, RULES), Outcome(14, excess), RULES)
    assert graded.verdict == verdict
    assert graded.explanation.startswith(verdict)


def test_an_alarm_that_was_held_back_is_graded_all_the_same():
    held = decide(ALARM, replace(RULES, retrain_budget=0))
    assert held.reason == "budget"
    assert grade(held, Outcome(14, 0.03), RULES).verdict == "true-alarm"


@pytest.mark.parametrize(
    ("broken", "verdict"), [(True, "true-alarm"), (False, "false-alarm"), (None, "ungraded")]
)
def test_a_broken_feed_is_graded_by_its_owner(broken, verdict):
    breach = Breach("wind", "range", "2013-05-30", 0.4, 0.06)
    decision = decide(replace(QUIET, breaches=(breach,)), RULES)
    assert grade(decision, Outcome(14, 0.5, broken), RULES).verdict == verdict
