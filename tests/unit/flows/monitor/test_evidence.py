"""Gathering: one window's sketches and scored rows become evidence that decides as it should."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flows.monitor.contracts import FeedRules
from flows.monitor.decide import decide
from flows.monitor.evidence import MonitorEvidence, gather
from flows.monitor.rules import MonitorRules
from flows.profile.profile import Holdout, Profile, sketch_days
from flows.profile.record import decode, encode

START = date(2013, 1, 1)


def served(days, *, first=0, concept=0.0, seed=0):
    """The true logit of x moves by `concept`; the champion still believes the old one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=days * 250)
    day = np.repeat(np.arange(first, first + days), 250)
    truth = 1 / (1 + np.exp(1 - x - concept))
    return pl.DataFrame(
        {
            "day": pl.Series([START + timedelta(days=int(k)) for k in day]),
            "x": x,
            "score": 1 / (1 + np.exp(1 - x)),
            "challenger_score": truth,
            "label": (rng.uniform(size=x.size) < truth).astype(np.int64),
        }
    )


@pytest.fixture(scope="module")
def profile():
    return Profile.of(served(60), day="day", columns=["x"], holdout=Holdout.of(served(20, seed=9)))


def collect(profile, rows, columns=("day", "score", "challenger_score", "label")):
    return gather(
        pipeline="flights",
        release="flights/1",
        start=datetime(2013, 3, 2, tzinfo=UTC),
        end=datetime(2013, 3, 30, tzinfo=UTC),
        profile=profile,
        days=sketch_days(rows, profile.grid, day="day"),
        scored=rows.select(columns),
        feed_rules=FeedRules(),
        failure_margin=0.015,
    )


def test_a_world_that_stands_still_is_left_alone(profile):
    for seed in range(3):
        decision = decide(collect(profile, served(28, first=60, seed=seed)), MonitorRules())
        assert decision.action == "none"


def test_concept_drift_is_seen_by_the_challenger_and_by_measured_loss(profile):
    rows = served(28, first=60, concept=1.0, seed=1)
    challenged = decide(collect(profile, rows), MonitorRules())
    alone = decide(collect(profile, rows, ("day", "score", "label")), MonitorRules())
    assert (challenged.action, challenged.reason) == ("retrain", "challenger-advantage")
    assert (alone.action, alone.level) == ("retrain", 2)


def test_before_labels_cbpe_is_blind_to_concept_drift_and_says_so(profile):
    rows = served(28, first=60, concept=1.0, seed=1).with_columns(label=pl.lit(None, pl.Int64))
    evidence = collect(profile, rows)
    decision = decide(evidence, MonitorRules())
    assert (evidence.measured, evidence.advantage) == (None, None)
    assert evidence.estimated is not None
    assert decision.action == "none"
    assert "concept drift" in decision.notes[0]


def test_before_labels_a_moved_feature_alarms(profile):
    rows = served(28, first=60, seed=1).with_columns(
        pl.col("x") + 1.5, label=pl.lit(None, pl.Int64)
    )
    decision = decide(collect(profile, rows), MonitorRules())
    assert (decision.action, decision.reason, decision.level) == ("retrain", "drift", 3)


def test_evidence_has_one_digest_whatever_the_order_of_rows(profile):
    rows = served(28, first=60, concept=0.5)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=3)
    evidence = collect(profile, rows)
    assert collect(profile, shuffled).digest == evidence.digest
    assert decode(MonitorEvidence, encode(evidence)) == evidence


def test_a_window_without_rows_is_insufficient(profile):
    evidence = collect(profile, served(28).clear())
    assert decide(evidence, MonitorRules()).reason == "empty-window"
