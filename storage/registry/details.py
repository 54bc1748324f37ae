"""What the records of the releases repository say, stage by stage; several stages read them.

A candidate's record holds what its training will say in the data repository, a verdict's what its
gate will: each is committed with the bytes it speaks of, so that it cannot come to speak of
others. Records are not signed: they say where to look, never what to believe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.runs.details import Details
from storage.runs.records import Record


@dataclass(frozen=True, kw_only=True)
class TrainDetails(Details):
    """Stage train. `outcome` and `candidate` are known once the candidate is committed.

    `cutoff` is the moment whose knowledge counted, `boundary` where the holdout begins.
    """

    decision: str | None
    reason: str
    branch: str
    cutoff: str
    boundary: str
    hyperparameters: Mapping[str, Any]
    outcome: str | None = None
    candidate: str | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """The part of a training's record that is committed with its candidate."""

    counts: Mapping[str, int]
    metrics: Mapping[str, float]
    details: TrainDetails
    later: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CandidateDetails(Details):
    """Stage candidate."""

    training: Training


@dataclass(frozen=True, kw_only=True)
class GateDetails(Details):
    """Stage gate in the data repository; a candidate that was refused has hardly any of it.

    `decision` is what its trainer says it was trained for; nothing depends on it.
    """

    decision: str | None
    reason: str | None = None
    branch: str | None = None
    cutoff: str | None = None
    boundary: str | None = None
    against: str | None = None
    gates: tuple[Mapping[str, Any], ...] | None = None
    candidate: str | None = None
    outcome: str | None = None
    passed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The part of a gate's record that is committed with the verdict."""

    counts: Mapping[str, int]
    metrics: Mapping[str, float]
    details: GateDetails
    later: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VerdictDetails(Details):
    """Stage gate in the releases repository. `refused`: the candidate was not even judged."""

    candidate: str
    passed: bool
    refused: bool
    outcome: str
    judged: Judgement


@dataclass(frozen=True, kw_only=True)
class RegisterDetails(Details):
    """Stage register: which release, written `flights/3`."""

    release: str


@dataclass(frozen=True, kw_only=True)
class RegisterCandidateDetails(RegisterDetails):
    """Of a candidate that passed; `against` is the digest of the champion it was measured with."""

    candidate: str
    reason: str | None
    branch: str | None
    against: str | None


@dataclass(frozen=True, kw_only=True)
class ResealDetails(RegisterDetails):
    """Of a release sealed anew, `without` one recipient; `run` is the training's."""

    reason: str
    resealed: str
    without: str
    run: str


@dataclass(frozen=True, kw_only=True)
class IndexDetails(Details):
    """Stage serve: what the environment's index of this number names, and who decided it, why."""

    environment: str
    index: int
    kind: str
    release: str
    reason: str
    actor: str


@dataclass(frozen=True, kw_only=True)
class ProposeDetails(Details):
    """Stage propose, of the run that files a proposal."""

    environment: str
    proposal: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TimestampDetails(Details):
    """Stage timestamp: the index that was said to be the newest."""

    environment: str
    index: int


@dataclass(frozen=True, kw_only=True)
class RecipientDetails(Details):
    """Stage recipients: the recipient that a release was sealed for besides."""

    release: str
    added: str


@dataclass(frozen=True, kw_only=True)
class PolicyDetails(Details):
    """Stage policy: the digests of both documents, and the edition as three numbers."""

    trust: str
    rules: str
    edition: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CheckpointDetails(Details):
    """Stage checkpoint: the size and root of the audit log that were signed."""

    size: int
    root: str


def read_registered_candidate(record: Record) -> RegisterCandidateDetails | None:
    """What a registration says of its candidate; None for a release that was sealed anew.

    Raises: StorageError for a record that lacks a field.
    """
    if "candidate" not in record.details:
        return None
    return RegisterCandidateDetails.of(record)
