"""From exported files and evidence to a signed, sealed release folder, ready to register."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.errors import Misconfigured
from flows.pipeline import Param, Pipeline, definition_digest
from flows.train.gates import Evidence
from flows.train.rules import measured
from flows.trust import Trusted
from security.bundle import seal
from security.index import moment_text
from security.keys import load_signer
from security.release import sign_gates, sign_provenance, sign_release
from security.statement import Build, DataPin
from storage.lake import Pin


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one training run made, before it is signed."""

    run_id: str
    pipeline: Pipeline
    data: Mapping[str, Pin]
    code: Mapping[str, str]
    hyperparameters: Mapping[str, Param]
    started: datetime
    files: Mapping[str, bytes]
    evidence: Sequence[Evidence]
    card: str
    reason: str
    parent: str | None
    training: Mapping[str, Any]


def sealed_release(trained: Trained, trusted: Trusted, *, work: Path) -> Callable[[int], Path]:
    """Seal the payload and sign provenance and evidence once; the answer signs a version.

    `work` is a private, empty folder. Each role builds its own statement from what it measured
    or did. Raises: Untrusted if a gate failed or was not measured, Misconfigured outside git.
    """
    plain, release = _write_plain(trained.files, work / "plain"), work / "release"
    policy, keys, model = trusted.policy, trusted.keys, trained.pipeline.name
    bundle = seal(plain, recipients=policy.recipients, out=release)
    build = _build(trained)
    sign_provenance(release, build, bundle.sealed, signer=load_signer(keys, "trainer"))
    sign_gates(
        release,
        plain,
        measured(trained.evidence),
        model=model,
        policy=policy,
        signer=load_signer(keys, "gatekeeper"),
    )

    def sign(version: int) -> Path:
        sign_release(
            release,
            version=version,
            card=trained.card,
            created=moment_text(datetime.now(UTC)),
            created_by="train",
            reason=trained.reason,
            policy=policy,
            signer=load_signer(keys, "releaser"),
            parent=trained.parent,
        )
        return release

    return sign


def _write_plain(files: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    folder.mkdir(mode=0o700)
    paths = {name: folder / name for name in files}
    for name, path in paths.items():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(files[name])
    return paths


def _build(trained: Trained) -> Build:
    if not trained.code.get("code_commit"):
        raise Misconfigured(
            "The pipeline's code is in no git commit, so a release could not name it.",
            remedy="Commit it with git and train again.",
        )
    pipeline = trained.pipeline
    return Build(
        run_id=trained.run_id,
        pipeline=pipeline.name,
        model=pipeline.name,
        data={name: DataPin(pin.repository, pin.commit) for name, pin in trained.data.items()},
        code_commit=trained.code["code_commit"],
        code_clean=trained.code["code_clean"] == "true",
        lock_sha256=trained.code["lock"],
        definition_sha256=definition_digest(pipeline),
        hyperparameters={name: _exact(v) for name, v in trained.hyperparameters.items()},
        features_sha256=_digest([list(pipeline.features), list(pipeline.categorical)]),
        schema_sha256=_digest({d.name: _schema(d.contract.columns()) for d in pipeline.datasets}),
        started=moment_text(trained.started),
        finished=moment_text(datetime.now(UTC)),
    )


def _exact(value: Param) -> str | int | bool | None:
    """Signed documents hold no floats: they are written as decimal text."""
    return repr(value) if isinstance(value, float) else value


def _schema(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [str(column.dtype), column.nullable] for name, column in columns.items()}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
