"""Who trained what from what: SLSA provenance v1 of one training run.

The facts stand once, in `internalParameters`; SLSA's standard fields are derived from them and
must agree, so that other tools read the same story.
Source: https://slsa.dev/spec/v1.0/provenance
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from security.errors import Untrusted
from security.formats.intoto import Statement, parse_statement
from security.formats.strict_json import (
    FileName,
    GitCommit,
    Identifier,
    LakeCommit,
    Line,
    Moment,
    Name,
    Scalar,
    Sha256,
    Size,
    from_json,
    to_bytes,
    to_json,
)

PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://headrace.dev/train/v1"
BUILDER = "https://headrace.dev/trainer/v1"


@dataclass(frozen=True)
class DataPin:
    """A repository at a full commit id; a branch name is never enough."""

    repository: Identifier
    commit: LakeCommit


@dataclass(frozen=True)
class Build:
    """Everything that determines a model. Non-integer hyperparameters are decimal text.

    `cutoff` is the moment whose knowledge counted, `branch` the one whose data were learnt from,
    `reason` why it was trained. `data_sha256` maps each dataset to the digest of the files that
    it consisted of, so that the data can be told again where the lake's commit ids are gone.
    """

    run_id: Identifier
    pipeline: Name
    model: Name
    data: Mapping[Name, DataPin]
    code_commit: GitCommit
    code_clean: bool
    lock_sha256: Sha256
    definition_sha256: Sha256
    hyperparameters: Mapping[str, Scalar]
    features_sha256: Sha256
    schema_sha256: Sha256
    started: Moment
    finished: Moment
    cutoff: Moment | None = None
    branch: Identifier | None = None
    reason: Line | None = None
    data_sha256: Mapping[Name, Sha256] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON: the same however often the files are sealed."""
        return hashlib.sha256(to_bytes(self)).hexdigest()


@dataclass(frozen=True)
class SealedFile:
    """One payload file, plain and sealed. Sizes in bytes."""

    name: FileName
    size: Size
    sha256: Sha256
    sealed_size: Size
    sealed_sha256: Sha256


@dataclass(frozen=True)
class SealedBundle:
    """What was sealed under one bundle key; the order of `files` is their index."""

    bundle_id: Sha256
    suite: Identifier
    files: tuple[SealedFile, ...]

    def __post_init__(self) -> None:
        if not self.files or len(self.subjects) != len(self.files):
            raise Untrusted(
                "a bundle has at least one file, and names each once", code="trust.malformed"
            )

    @property
    def subjects(self) -> dict[str, str]:
        """File name to SHA-256 of its plain bytes."""
        return {file.name: file.sha256 for file in self.files}


def make_provenance_statement(build: Build, bundle: SealedBundle) -> Statement:
    """The trainer's claim that `build` made the files of `bundle`."""
    return Statement(bundle.subjects, PROVENANCE, _make_predicate(build, bundle))


def parse_provenance(payload: bytes) -> tuple[Build, SealedBundle]:
    """Read verified bytes as provenance.

    Raises: Untrusted if SLSA's fields, the subjects and the facts do not tell the same story.
    """
    statement = parse_statement(payload, predicate_type=PROVENANCE)
    definition = statement.predicate.get("buildDefinition")
    facts = definition.get("internalParameters") if isinstance(definition, dict) else None
    if not isinstance(facts, dict):
        raise Untrusted("the provenance lacks its internal parameters", code="trust.malformed")
    build = from_json(Build, facts.get("build"), "build")
    bundle = from_json(SealedBundle, facts.get("bundle"), "bundle")
    if make_provenance_statement(build, bundle) != statement:
        raise Untrusted("the provenance contradicts itself", code="trust.contradictory")
    return build, bundle


def _make_predicate(build: Build, bundle: SealedBundle) -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "pipeline": build.pipeline,
                "model": build.model,
                "hyperparameters": dict(build.hyperparameters),
            },
            "internalParameters": {"build": to_json(build), "bundle": to_json(bundle)},
            "resolvedDependencies": _list_dependencies(build),
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {
                "invocationId": build.run_id,
                "startedOn": build.started,
                "finishedOn": build.finished,
            },
            "byproducts": [
                {"name": f"{file.name}.sealed", "digest": {"sha256": file.sealed_sha256}}
                for file in bundle.files
            ],
        },
    }


def _list_dependencies(build: Build) -> list[dict[str, Any]]:
    return [
        {"name": "code", "digest": {"gitCommit": build.code_commit}},
        {"name": "lock", "digest": {"sha256": build.lock_sha256}},
        *(
            {
                "name": f"data/{name}",
                "uri": f"lakefs://{pin.repository}/{pin.commit}/",
                "digest": {"lakefsCommit": pin.commit},
            }
            for name, pin in sorted(build.data.items())
        ),
        *(
            {"name": f"dataset/{name}", "digest": {"sha256": digest}}
            for name, digest in sorted((build.data_sha256 or {}).items())
        ),
    ]
