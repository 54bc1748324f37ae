"""Plots are PNGs 800 pixels wide, the same every time, and cost nothing until drawn."""

import base64
import struct
import subprocess
import sys
from dataclasses import replace

import pytest

from flows.monitor.decide import decide
from flows.monitor.report import plot_daily_loss, plot_drift, rank_drift, write_decision
from flows.profile.plots import calibration_plot
from tests.unit.flows.monitor.worlds import RULES, even_challenger, evidence, profile, world

ROWS = world(bias=0.1, shift=0.1, challenger=even_challenger, quiet_features=25)
EVIDENCE = evidence(ROWS, profile(quiet_features=25))
FEW_DAYS = evidence(world(2, challenger=even_challenger), days=2)
SCORED = ROWS.select("day", "score", "challenger_score", "label")
DECISION = decide(EVIDENCE, RULES)

PLOTS = {
    "drift": lambda: plot_drift(EVIDENCE),
    "drift of two days": lambda: plot_drift(FEW_DAYS),
    "loss": lambda: plot_daily_loss(SCORED, DECISION),
    "loss of a champion alone": lambda: plot_daily_loss(SCORED.drop("challenger_score"), DECISION),
    "calibration": lambda: calibration_plot(SCORED, "flights/1"),
    "drift of nothing": lambda: plot_drift(evidence(world(0))),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_png_800_pixels_wide_and_the_same_every_time(name):
    uri = PLOTS[name]()
    head, _, data = uri.partition(",")
    image = base64.b64decode(data)
    assert head == "data:image/png;base64"
    assert image.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">I", image[16:20]) == (800,)
    assert PLOTS[name]() == uri


def test_the_alarm_is_drawn_only_when_there_is_one():
    quiet = replace(DECISION, alarm=False)
    assert DECISION.alarm
    assert plot_daily_loss(SCORED, DECISION) != plot_daily_loss(SCORED, quiet)


def test_importing_the_plots_does_not_import_matplotlib():
    code = "import sys, flows.monitor.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_ranking_has_a_row_for_each_feature_and_says_where_there_is_no_test():
    ranking = rank_drift(EVIDENCE)
    assert len(ranking) == 27
    assert ranking[0]["feature"] == "wind"
    assert ranking[0]["PSI"] == round(EVIDENCE.drift[0].psi, 4)
    assert ranking[0]["day-level t"] == round(EVIDENCE.drift[0].test.t, 2)
    assert {row["day-level t"] for row in rank_drift(FEW_DAYS)} == {None}


def test_the_text_of_a_decision_has_its_sentence_its_notes_and_its_place():
    text = write_decision(DECISION, "c0ffee")
    assert text.startswith(f"## retrain\n\n{DECISION.explanation}\n\n- ")
    assert all(f"\n- {note}" in text for note in DECISION.notes)
    assert text.endswith(f"Ledger `ledger/{DECISION.id}.json` at `c0ffee`.")
