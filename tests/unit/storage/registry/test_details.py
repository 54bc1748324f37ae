"""What the records of the releases repository say, field by field as lakes of before have it."""

import pytest

from storage.errors import StorageError
from storage.registry.details import (
    CandidateDetails,
    GateDetails,
    Judgement,
    RegisterCandidateDetails,
    RegisterDetails,
    ResealDetails,
    VerdictDetails,
    read_registered_candidate,
)
from storage.runs.records import Record

TRAINED = {
    "decision": None,
    "reason": "request a",
    "branch": "main",
    "cutoff": "2013-07-01T00:00:00+00:00",
    "boundary": "2013-06-01T00:00:00+00:00",
    "hyperparameters": {"depth": 3, "rate": 0.1, "kind": "gbtree", "seed": None},
}
REGISTERED = {
    "release": "flights/3",
    "candidate": "c" * 64,
    "reason": "request a",
    "branch": "main",
    "against": None,
}
RESEALED = {
    "release": "flights/4",
    "reason": "left",
    "resealed": "flights/3",
    "without": "ab",
    "run": "c" * 64,
}


def record(details: object) -> Record:
    return Record("register", "a" * 64, "b", "2026-01-01T00:00:00+00:00", 1.0, "c", details=details)  # type: ignore[arg-type]


def test_a_candidate_s_record_reads_and_writes_as_it_was() -> None:
    stored = {
        "training": {
            "counts": {"train": 3},
            "metrics": {"log_loss": 0.25},
            "details": TRAINED,
        }
    }
    assert CandidateDetails.of(record(stored)).to_json() == stored


def test_a_refused_candidate_leaves_hardly_anything() -> None:
    said = VerdictDetails(
        candidate="c",
        passed=False,
        refused=True,
        outcome="champion stays",
        judged=Judgement(counts={}, metrics={}, details=GateDetails(decision=None)),
    )
    assert said.to_json()["judged"] == {"counts": {}, "metrics": {}, "details": {"decision": None}}
    assert VerdictDetails.of(record(said.to_json())) == said


def test_a_first_release_was_measured_against_nothing_and_says_so() -> None:
    assert RegisterCandidateDetails.of(record(REGISTERED)).to_json() == REGISTERED


def test_every_registration_names_its_release_whatever_it_was_made_of() -> None:
    for stored in (REGISTERED, RESEALED):
        found = RegisterDetails.of(record(stored))
        assert found.release == stored["release"]
        assert found.to_json() == stored
    assert ResealDetails.of(record(RESEALED)).without == "ab"


def test_only_a_release_of_a_candidate_has_one() -> None:
    found = read_registered_candidate(record(REGISTERED))
    assert found is not None
    assert found.candidate == "c" * 64
    assert read_registered_candidate(record(RESEALED)) is None


@pytest.mark.parametrize("training", ["first", {"metrics": {"roc_auc": 0.999}}, None])
def test_a_claim_of_another_shape_is_refused(training: object) -> None:
    with pytest.raises(StorageError):
        CandidateDetails.of(record({"training": training}))
