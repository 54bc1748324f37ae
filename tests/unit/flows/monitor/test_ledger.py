"""A decision, its evidence and its grade, in the bytes of the ledger."""

import json

import pytest

from flows.errors import ContractBroken
from flows.ledger import path_of, path_of_grade
from flows.monitor.decide import Decision, decide
from flows.monitor.evidence import MonitorEvidence
from flows.monitor.grade import Grade, WindowOutcome, grade
from flows.monitor.ledger import LedgerEntry
from flows.profile.record import decode, encode
from tests.unit.flows.monitor.worlds import RULES, even_challenger, evidence, world

ALARM = evidence(world(bias=0.1, challenger=even_challenger))
RISING = evidence(world(bias=0.04, challenger=lambda rate, day: rate + 0.06 - 0.0018 * day))
UNLABELLED = evidence(world(labels=0.0))


@pytest.mark.parametrize("found", [ALARM, RISING, UNLABELLED])
def test_evidence_decision_and_grade_survive_their_json(found):
    decision = decide(found, RULES)
    graded = grade(decision, WindowOutcome(28, 0.02, feed_was_broken=True), RULES)
    entry = LedgerEntry(decision, found)
    for kind, record in (
        (MonitorEvidence, found), (Decision, decision), (Grade, graded), (LedgerEntry, entry),
    ):  # fmt: skip
        payload = encode(record)
        assert decode(kind, payload) == record
        assert encode(decode(kind, payload)) == payload


def test_the_names_in_an_entry_are_those_of_every_ledger_before():
    entry = json.loads(encode(LedgerEntry(decide(RISING, RULES), RISING)))
    assert sorted(entry) == ["decision", "evidence"]
    assert sorted(entry["decision"]) == [
        "action", "alarm", "evidence_digest", "explanation", "id", "level", "notes", "pipeline",
        "reason", "release", "statistic", "threshold", "window_end", "window_start", "witness",
    ]  # fmt: skip
    found = entry["evidence"]
    assert sorted(found) == [
        "advantage", "bias", "breaches", "challenger", "drift", "estimated", "estimated_rise",
        "forecast", "loss_rise", "measured", "pipeline", "release", "window",
    ]  # fmt: skip
    assert sorted(found["window"]) == ["end", "labelled_rows", "rows", "start"]
    assert sorted(found["forecast"]) == [
        "days_to_margin", "excess_now", "margin", "slope", "slope_high", "slope_low",
    ]  # fmt: skip
    assert sorted(found["measured"]) == [
        "brier", "calibration_error", "log_loss", "roc_auc", "rows",
    ]  # fmt: skip
    assert sorted(found["drift"][0]) == ["column", "js", "ks", "psi", "shift_sd", "test", "w1_sd"]
    assert entry["decision"]["window_end"] == "2013-06-01T00:00:00Z"
    graded = grade(decide(ALARM, RULES), WindowOutcome(28, 0.02), RULES)
    assert sorted(json.loads(encode(graded))) == [
        "decision_id", "excess_nats", "explanation", "verdict",
    ]  # fmt: skip
    assert path_of("ab") == "ledger/ab.json"
    assert path_of_grade("ab") == "ledger/ab.grade.json"


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
