"""Decisions: what the evidence says, what history holds back, and what a person is told beside."""

from dataclasses import replace
from datetime import date, timedelta, timezone

import polars as pl
import pytest

from flows.ledger import DecisionState
from flows.monitor.decide import decide
from tests.unit.flows.monitor.worlds import (
    DAY,
    END,
    RULES,
    even_challenger,
    evidence,
    profile,
    world,
)

QUIET = evidence(world(challenger=even_challenger))
STALE = world(bias=0.1, challenger=even_challenger)
ALARM = evidence(STALE)


def remember(decision, *, ago=0 * DAY, answered=True):
    """What the ledger has of a decision like this one, whose window ended earlier."""
    return DecisionState(
        id=f"past{ago}",
        release=decision.release,
        window_end=END - ago,
        action=decision.action,
        alarm=decision.alarm,
        level=decision.level,
        rows=100,
        answered=answered and decision.action == "retrain",
    )


def lose(rows, day, *columns):
    """Two rows in five lose the columns' values on one day."""
    lost = (pl.col("day") == day) & (pl.int_range(pl.len()) % 5 < 2)
    return rows.with_columns(pl.when(~lost).then(pl.col(name)).alias(name) for name in columns)


def test_a_decision_says_whose_window_it_judged_and_by_which_witness():
    decision = decide(ALARM, RULES)
    assert (decision.action, decision.reason, decision.witness) == (
        "retrain",
        "challenger-advantage",
        "challenger-advantage",
    )
    assert (decision.window_start, decision.window_end) == (END - 28 * DAY, END)
    assert decision.evidence_digest == ALARM.digest
    assert decision.alarm
    assert decide(QUIET, RULES).action == "none"


def test_a_feed_mended_a_week_ago_is_noted_and_blocks_no_more():
    reference = profile(quiet_features=5)
    columns = [f"quiet_{i}" for i in range(5)]
    rows = world(bias=0.1, challenger=even_challenger, quiet_features=5)
    mended = lose(rows, date(2013, 5, 24), *columns)
    decision = decide(evidence(mended, reference), RULES)
    assert decision.action == "retrain"
    assert decision.notes[0].endswith(
        "no longer block: quiet_0 on 2013-05-24, quiet_1 on 2013-05-24, quiet_2 on 2013-05-24 "
        "and 2 more."
    )
    broken = lose(mended, date(2013, 5, 25), "quiet_0")
    assert decide(evidence(broken, reference), RULES).action == "fix-feed"


def test_features_that_moved_are_named_and_do_not_decide():
    decision = decide(evidence(world(shift=1.0, challenger=even_challenger)), RULES)
    assert decision.action == "none"
    assert any("wind (PSI 3.80)" in note for note in decision.notes)


def test_before_labels_the_first_note_is_a_caution():
    decision = decide(evidence(world(labels=0.1)), RULES)
    assert "concept drift" in decision.notes[0]


def test_the_forecast_informs_and_never_alarms():
    rising = evidence(world(bias=0.04, challenger=lambda rate, day: rate + 0.06 - 0.0018 * day))
    decision = decide(rising, RULES)
    assert decision.action == "none"
    assert rising.forecast.days_to_margin == pytest.approx(27.26, abs=0.01)
    assert "reaches 0.015 in 27 days" in decision.notes[-1]


def test_debounce_waits_for_alarms_in_a_row():
    rules = replace(RULES, confirmations=3)
    alarm, quiet = decide(ALARM, rules), decide(QUIET, rules)
    assert (alarm.action, alarm.reason, alarm.alarm) == ("none", "debounce", True)
    two = [remember(alarm, ago=k * DAY) for k in (1, 2)]
    assert decide(ALARM, rules, two).action == "retrain"
    broken_row = [two[0], remember(quiet, ago=2 * DAY), remember(alarm, ago=3 * DAY)]
    assert decide(ALARM, rules, broken_row).reason == "debounce"
    same_window_twice = [remember(alarm, ago=DAY), replace(two[0], id="other")]
    assert decide(ALARM, rules, same_window_twice).reason == "debounce"
    other_release = [replace(h, release="flights/0") for h in two]
    assert decide(ALARM, rules, other_release).reason == "debounce"


@pytest.mark.parametrize(
    ("ago", "answered", "held"),
    [
        (1 * DAY, False, "single-flight"),
        (1 * DAY, True, "cool-down"),
        (3 * DAY, False, "cool-down"),
        (7 * DAY, True, None),
        (8 * DAY, False, None),
        (-1 * DAY, True, "superseded"),
    ],
)
def test_an_earlier_retraining_holds_the_next_back_for_a_while(ago, answered, held):
    decision = decide(ALARM, RULES, [remember(decide(ALARM, RULES), answered=answered, ago=ago)])
    assert decision.reason == (held or "challenger-advantage")
    assert decision.action == ("none" if held else "retrain")
    assert decision.alarm
    assert decision.witness == "challenger-advantage"


def test_a_spent_budget_holds_back_and_says_so():
    first = decide(ALARM, RULES)
    history = [remember(first, ago=k * 10 * DAY) for k in range(1, 5)]
    held = decide(ALARM, RULES, history)
    assert (held.action, held.reason) == ("none", "budget")
    assert held.explanation.endswith("Held: 4 retrainings in 90 days is the budget.")
    assert decide(ALARM, RULES, history[:3]).action == "retrain"


def test_a_broken_feed_is_reported_whatever_history_says():
    broken = evidence(lose(STALE, date(2013, 5, 30), "wind"))
    running = [remember(decide(ALARM, RULES), answered=False, ago=DAY)]
    assert decide(broken, RULES, running).action == "fix-feed"


def test_the_id_comes_from_the_evidence_not_from_history_or_the_time_zone():
    first = decide(ALARM, RULES)
    elsewhere = timezone(timedelta(hours=-5))
    window = replace(
        ALARM.window,
        start=ALARM.window.start.astimezone(elsewhere),
        end=ALARM.window.end.astimezone(elsewhere),
    )
    assert decide(ALARM, RULES, [remember(first, ago=DAY)]).id == first.id
    assert decide(replace(ALARM, window=window), RULES).id == first.id
    changed = [
        replace(ALARM, pipeline="x"),
        replace(ALARM, release="flights/2"),
        evidence(world(bias=0.101, challenger=even_challenger)),
        replace(ALARM, window=replace(ALARM.window, end=END + DAY)),
    ]
    assert len({first.id, *(decide(e, RULES).id for e in changed)}) == 5


def test_deciding_again_after_its_own_entry_gives_the_same_answer():
    first = decide(ALARM, RULES)
    own = replace(remember(first, answered=False), id=first.id)
    assert decide(ALARM, RULES, [own]) == first
