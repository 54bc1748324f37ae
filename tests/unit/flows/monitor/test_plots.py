"""Plots are PNGs 800 pixels wide, the same every time, and cost nothing until drawn."""

import base64
import struct
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from flows.monitor.decide import decide
from flows.monitor.drift import ColumnDrift
from flows.monitor.evidence import MonitorEvidence, Window
from flows.monitor.plots import Month, daily_loss_plot, drift_plot, months_plot
from flows.monitor.rules import MonitorRules
from flows.profile.day_means import DayTest
from flows.profile.plots import calibration_plot

END = datetime(2013, 6, 1, tzinfo=UTC)
TEST = DayTest(0.02, 0.004, 12.0, 28, 0, "nats a prediction")
MOVES = tuple(
    ColumnDrift(f"{'long_' * i}feature_{i}", 0.3 / (i + 1), 0.1, None, None, None, test)
    for i, test in enumerate([replace(TEST, estimate=0.9), TEST, None, *[TEST] * 30])
)
EVIDENCE = MonitorEvidence(
    pipeline="flights", release="flights/1",
    window=Window(END - timedelta(days=28), END, 100, 100), breaches=(), drift=MOVES,
    measured=None, challenger=None, estimated=None, advantage=TEST, loss_rise=None, bias=None,
    estimated_rise=None, forecast=None,
)  # fmt: skip
SCORED = pl.DataFrame(
    {
        "day": [date(2013, 5, 4 + k // 4) for k in range(80)],
        "score": [(k % 10 + 0.5) / 10 for k in range(80)],
        "challenger_score": [0.4 if k % 3 else 0.6 for k in range(80)],
        "label": [k % 3 == 0 for k in range(80)],
    }
).with_columns(pl.col("label").cast(pl.Int64))
DECISION = decide(EVIDENCE, MonitorRules())
MONTHS = [Month(date(2013, m, 1), 0.7, None if m < 3 else 0.75) for m in range(1, 8)]

PLOTS = {
    "drift": lambda: drift_plot(EVIDENCE),
    "loss": lambda: daily_loss_plot(SCORED, DECISION),
    "loss of a champion alone": lambda: daily_loss_plot(SCORED.drop("challenger_score"), DECISION),
    "calibration": lambda: calibration_plot(SCORED, "flights/1"),
    "months": lambda: months_plot(MONTHS, {date(2013, 4, 2): "flights/2"}),
    "drift of nothing": lambda: drift_plot(replace(EVIDENCE, drift=())),
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
    assert daily_loss_plot(SCORED, DECISION) != daily_loss_plot(SCORED, quiet)


def test_importing_the_plots_does_not_import_matplotlib():
    code = "import sys, flows.monitor.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
