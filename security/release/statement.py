"""The model release: one signed statement that binds a model to everything it came from."""

import hashlib
from dataclasses import dataclass

from security.errors import Untrusted
from security.formats.intoto import Statement, parse_statement
from security.formats.strict_json import (
    Line,
    Moment,
    Name,
    Ordinal,
    Sha256,
    from_json,
    to_json,
)
from security.policy.gates import GateResult
from security.release.provenance import Build, DataPin, SealedBundle, SealedFile

MODEL_RELEASE = "https://headrace.dev/model-release/v1"

__all__ = [
    "MODEL_RELEASE",
    "Build",
    "DataPin",
    "GateResult",
    "ModelRelease",
    "SealedBundle",
    "SealedFile",
    "parse_release",
]


@dataclass(frozen=True)
class ModelRelease:
    """Model, data, code, environment, features and gates of one version, by digest.

    `parent` is the release digest of the version this one replaces; `policy_sha256` is the
    digest of the rules its gates were judged under.
    """

    model: Name
    version: Ordinal
    build: Build
    bundle: SealedBundle
    gates: tuple[GateResult, ...]
    policy_sha256: Sha256
    provenance_sha256: Sha256
    evidence_sha256: Sha256
    card_sha256: Sha256
    created: Moment
    created_by: Line
    reason: Line
    parent: Sha256 | None = None

    @property
    def path(self) -> str:
        """Where the release lives in the releases repository."""
        return f"models/{self.model}/{self.version}"

    @property
    def digest(self) -> str:
        """The release's identity: SHA-256 of its statement, never of an envelope around it."""
        return hashlib.sha256(self.to_statement().to_bytes()).hexdigest()

    def to_statement(self) -> Statement:
        """The statement whose subjects are the plain payload files."""
        return Statement(self.bundle.subjects, MODEL_RELEASE, to_json(self))


def parse_release(payload: bytes) -> ModelRelease:
    """Read verified bytes as a model release.

    Raises: Untrusted if subjects and predicate disagree, or the model was built as another one.
    """
    statement = parse_statement(payload, predicate_type=MODEL_RELEASE)
    release = from_json(ModelRelease, statement.predicate, "release")
    if release.to_statement().to_bytes() != payload:
        raise Untrusted(
            "the release's subjects are not its payload files, in order", code="trust.contradictory"
        )
    if release.build.model != release.model:
        raise Untrusted(
            "the release names another model than its build", code="trust.contradictory"
        )
    return release
