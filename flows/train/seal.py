"""From exported files to a sealed payload and its trainer's word, ready to be put forward."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import Misconfigured
from flows.pipeline import Param, Pipeline
from flows.pipeline.digest import digest_parts
from security.keys.pairs import RoleSigner
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import seal
from security.release.index import format_moment
from security.release.provenance import Build, DataPin
from security.release.signing import sign_provenance
from storage.lake import Pin


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one training run made, and from what. `branch` is where its data stood.

    `data_sha256` maps each dataset to the digest of the files it consists of at the pin.
    """

    run_id: str
    pipeline: Pipeline
    data: Mapping[str, Pin]
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    branch: str
    cutoff: datetime
    code: Mapping[str, str]
    hyperparameters: Mapping[str, Param]
    started: datetime
    files: Mapping[str, bytes]
    reason: str


def sealed_candidate(
    trained: Trained, policy: TrustPolicy, *, signer: RoleSigner, work: Path
) -> Path:
    """Seal the payload for the policy's recipients, and sign what it was made from.

    `work` is a private, empty folder. Raises: Misconfigured outside git.
    """
    build = _build(trained)
    plain, folder = _write_plain(trained.files, work / "plain"), work / "candidate"
    bundle = seal(plain, recipients=policy.recipients, out=folder)
    sign_provenance(folder, build, bundle.sealed, signer=signer)
    return folder


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
        hyperparameters={name: _exact(v) for name, v in trained.hyperparameters.items()},
        started=format_moment(trained.started),
        finished=format_moment(datetime.now(UTC)),
        cutoff=format_moment(trained.cutoff),
        branch=trained.branch,
        reason=trained.reason,
        data_sha256=dict(trained.data_sha256) or None,
        **digest_parts(pipeline),
    )


def _exact(value: Param) -> str | int | bool | None:
    """Signed documents hold no floats: they are written as decimal text."""
    return repr(value) if isinstance(value, float) else value
