from dataclasses import replace

import pytest

from flows.cli.commands import runs
from storage.runs.records import Record, Superseded

RECORD = Record(
    stage="gate",
    run_id="0123456789abcdef",
    attempt="a",
    started_at="2026-01-01T00:00:00+00:00",
    duration_s=1.25,
    base="b",
    counts={"rows": 12345},
    metrics={"log_loss": 0.123456, "brier": 0.2, "auc": 0.7, "more": 1.0},
    details={"candidate": "c1", "passed": True},
)


def test_a_row_has_three_metrics_and_the_release_that_came_of_the_candidate() -> None:
    row = runs._row(RECORD, {"c1": "flights/7"})
    assert row[1] == "0123456789ab"
    assert row[4] == "rows=12,345"
    assert row[5] == "log_loss=0.1235 brier=0.2 auc=0.7"
    assert row[6] == "flights/7"


@pytest.mark.parametrize(
    ("details", "superseded", "state"),
    [
        ({"passed": True}, None, "passed"),
        ({"passed": False}, None, "not passed"),
        ({}, None, ""),
        ({"passed": True}, Superseded("x", may_run_again=False), "undone"),
    ],
)
def test_the_state_is_the_verdict_unless_the_run_was_undone(
    details: dict[str, object], superseded: Superseded | None, state: str
) -> None:
    record = replace(RECORD, details=details, superseded=superseded)
    assert runs._row(record, {})[-1] == state


def test_a_record_is_shown_with_mappings_below_their_names_and_nothing_empty() -> None:
    value = {"a": {"b": 1, "c": None}, "d": ""}
    assert runs._lines("x", value) == ["x:", "  a:", "    b: 1"]
