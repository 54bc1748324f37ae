from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import Untrusted
from security.release.candidate import verify_candidate, verify_gated_candidate

IDENTITY = {"model": "delays", "run_id": "train-1f"}


@pytest.fixture
def gated(released: SimpleNamespace) -> Path:
    """A released folder as it was before its release."""
    for name in ("release.dsse.json", "card.md"):
        (released.folder / name).unlink()
    return Path(released.folder)


def test_a_gated_candidate_verifies_with_its_evidence(
    home: Any, released: SimpleNamespace, gated: Path
) -> None:
    candidate, evidence = verify_gated_candidate(gated, policy=home.policy, **IDENTITY)
    assert candidate.build == released.release.build
    assert candidate.digest == released.release.provenance_sha256
    assert candidate.key_id == home.signers["trainer"].public.key_id
    assert evidence.results == released.release.gates


def test_a_candidate_without_evidence_can_be_judged_and_not_released(
    home: Any, gated: Path
) -> None:
    (gated / "gates.dsse.json").unlink()
    assert verify_candidate(gated, policy=home.policy, **IDENTITY).build.model == "delays"
    with pytest.raises(Untrusted, match="no gate evidence") as refused:
        verify_gated_candidate(gated, policy=home.policy, **IDENTITY)
    assert refused.value.code == "trust.gate_missing"


@pytest.mark.parametrize(
    "identity", [{"model": "another", "run_id": "train-1f"}, {"model": "delays", "run_id": "x"}]
)
def test_a_candidate_of_another_run_is_refused(
    home: Any, gated: Path, identity: dict[str, str]
) -> None:
    with pytest.raises(Untrusted, match="the provenance is of run") as refused:
        verify_gated_candidate(gated, policy=home.policy, **identity)
    assert refused.value.code == "trust.wrong_release"


def test_a_file_that_nobody_signed_is_refused(home: Any, gated: Path) -> None:
    (gated / "card.md").touch()
    with pytest.raises(Untrusted, match=r"not those of a candidate: 'card\.md'") as refused:
        verify_gated_candidate(gated, policy=home.policy, **IDENTITY)
    assert refused.value.code == "trust.unlisted_file"
