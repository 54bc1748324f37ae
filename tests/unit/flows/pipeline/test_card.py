import re
from dataclasses import replace

from examples.flights.pipeline import pipeline
from flows.pipeline.card import render_card
from security.policy.gates import GateEvidence, GateResult
from security.release.provenance import Build, DataPin, SealedBundle, SealedFile

BUILD = Build(
    run_id="train-1",
    pipeline="flights",
    model="flights",
    data={"data": DataPin("flights", "ab" * 32)},
    code_commit="cd" * 20,
    code_clean=False,
    lock_sha256="11" * 32,
    definition_sha256="22" * 32,
    hyperparameters={"max_iter": 120, "learning_rate": "0.08"},
    features_sha256="33" * 32,
    schema_sha256="44" * 32,
    started="2013-07-01T00:00:00Z",
    finished="2013-07-01T00:01:00Z",
    cutoff="2013-07-01T00:00:00Z",
    branch="main",
    reason="request first",
)
SEALED = SealedBundle(
    "55" * 32, "suite", (SealedFile("model.onnx", 268111, "66" * 32, 268200, "77" * 32),)
)
EVIDENCE = GateEvidence(
    "flights",
    "88" * 32,
    (
        GateResult("roc_auc", ">=", "0.65", "0.731"),
        GateResult("roc_auc:gap-by-carrier", "<=", "0.30", "0.12"),
    ),
    against="99" * 32,
    rows={"train": 90000, "train_positives": 20000, "holdout": 12000, "holdout_positives": 2500},
)


def test_a_card_holds_every_signed_gate_pin_feature_and_digest() -> None:
    card = render_card(pipeline, BUILD, SEALED, EVIDENCE)
    assert card == render_card(pipeline, BUILD, SEALED, EVIDENCE)
    wanted = ("ab" * 32, "cd" * 20, "11" * 32, "22" * 32, "0.731", "gap by carrier", "268111")
    for piece in (*wanted, *pipeline.features, "90000", "2500", "request first"):
        assert piece in card
    assert "2 of 2 gates passed, compared with release `999999999999`" in card
    assert "with uncommitted changes" in card


def test_the_first_models_rival_is_the_base_rate() -> None:
    card = render_card(pipeline, BUILD, SEALED, replace(EVIDENCE, against=None))
    assert "compared with the base rate" in card


def test_a_failed_gate_is_shown_as_failed() -> None:
    lost = GateResult("roc_auc", ">=", "0.65", "0.6")
    failed = replace(EVIDENCE, results=(lost, *EVIDENCE.results[1:]))
    card = render_card(pipeline, BUILD, SEALED, failed)
    assert "1 of 2 gates passed" in card
    assert card.count("**no**") == 1


def test_no_signed_text_can_break_out_of_its_cell() -> None:
    nasty = replace(BUILD, reason="<script> # Approved | `yes` [a](b)", hyperparameters={"x|y": 1})
    card = render_card(pipeline, nasty, SEALED, EVIDENCE)
    (line,) = [line for line in card.splitlines() if "x\\|y" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert "<script>" not in card.replace("\\<script\\>", "")
