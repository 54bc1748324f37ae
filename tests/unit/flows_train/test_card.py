import re
from dataclasses import replace

import pytest

from examples.flights.pipeline import pipeline
from flows.pipeline import definition_digest
from flows.train.card import CardFacts, render_card
from flows.train.gates import Evidence, judge


@pytest.fixture
def facts(fitted, split, exported) -> CardFacts:
    return CardFacts(
        pipeline=pipeline,
        definition_digest=definition_digest(pipeline),
        pins={"flights": "ab" * 32},
        hyperparameters=fitted.hyperparameters,
        seed=fitted.seed,
        split=split,
        evidence=judge(pipeline, fitted, split, exported),
        sizes=exported.sizes,
    )


def test_a_card_holds_every_gate_pin_feature_and_digest(facts):
    card = render_card(facts)
    assert card == render_card(facts)
    for piece in ("ab" * 32, facts.definition_digest, *pipeline.features, "2013-02-14 23:"):
        assert piece in card
    for evidence in facts.evidence:
        assert f"| {evidence.value} |" in card
    assert f"{len(facts.evidence)} of {len(facts.evidence)} gates passed" in card


def test_a_failed_gate_is_shown_as_failed(facts):
    lost = replace(facts.evidence[0], passed=False)
    card = render_card(replace(facts, evidence=(lost, *facts.evidence[1:])))
    assert "9 of 10 gates passed" in card
    assert card.count("**no**") == 1


def test_no_text_in_the_evidence_can_break_out_of_its_cell(facts):
    nasty = Evidence("x|y", "", "<=", "1", "0", True, "<script>\n# Approved | `yes` [a](b)")
    card = render_card(replace(facts, evidence=(nasty,)))
    (line,) = [line for line in card.splitlines() if "script" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 6
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "\n# Approved" not in card
