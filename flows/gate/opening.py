"""A candidate as the gatekeeper sees it: verified, its claims checked, decrypted, loaded.

Nothing that its trainer says is taken over: the data are read from the lake at the signed pin,
and the definition must be the gatekeeper's own copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from flows.learn.exported import MODEL, SKOPS, Exported
from flows.pipeline import Pipeline
from flows.pipeline.digest import digest_parts
from security.errors import Untrusted
from security.keys.pairs import Opener
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import open_sealed_bundle
from security.release.candidate import VerifiedCandidate, verify_candidate
from security.release.index import read_moment
from security.release.load import load_onnx, load_skops
from security.release.provenance import Build
from storage import registry
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import layout
from storage.tables.manifests import manifests

# How far back a branch's own commits are looked through.
_REACH = 100_000


@dataclass(frozen=True)
class OpenedCandidate:
    """`files` are the plain payload in a private folder; `model` and `estimator` were read there.

    `data` and `cutoff` are what the trainer signed, found to be so.
    """

    verified: VerifiedCandidate
    folder: Path
    files: Mapping[str, Path]
    model: Exported
    estimator: Any
    data: Pin
    cutoff: datetime


def open_candidate(
    lake: Lake,
    pipeline: Pipeline,
    pin: Pin,
    candidate: str,
    *,
    policy: TrustPolicy,
    recipient: Opener,
    work: Path,
) -> OpenedCandidate:
    """Verify first, then decrypt into `work` (private, empty), then load.

    Raises: NotFound without such a candidate; Untrusted if a claim of it does not hold;
    CannotDecrypt if it was not sealed for this gatekeeper.
    """
    folder = registry.download(lake, pin, layout.candidate_folder(candidate), work / "candidate")
    verified = verify_candidate(folder, policy=policy, model=pipeline.name, run_id=candidate)
    _require_own_definition(verified.build, pipeline)
    data = find_data_pin(lake, pipeline, verified.build)
    if manifests(lake, data, [d.name for d in pipeline.datasets]) != verified.build.data_sha256:
        raise Untrusted("the provenance names other files than the data commit holds")
    plain = open_sealed_bundle(folder, verified.sealed, recipient=recipient, into=work / "plain")
    model, estimator = _load_models(plain, policy)
    if model.encoding.features != pipeline.features:
        raise Untrusted("the payload's encoding has other features than the pipeline")
    return OpenedCandidate(
        verified=verified,
        folder=folder,
        files={name: plain / name for name in verified.sealed.subjects},
        model=model,
        estimator=estimator,
        data=data,
        cutoff=read_moment(verified.build.cutoff or ""),
    )


def _load_models(plain: Path, policy: TrustPolicy) -> tuple[Exported, Any]:
    """Both forms of the model, each of which answers a row of nothing but nulls."""
    session = load_onnx(plain / MODEL, limits=policy.limits)
    trusted = policy.rules.skops_types
    estimator = load_skops(plain / SKOPS, trusted=trusted, limits=policy.limits)
    try:
        model = Exported.read(plain, session)
        nothing = np.full((1, len(model.encoding.features)), np.nan, dtype=np.float32)
        shapes = {model.probabilities(nothing).shape, estimator.predict_proba(nothing).shape}
    # Whatever the payload made a library raise, it is no model that could be judged.
    except Exception as error:
        raise Untrusted("the payload's model or encoding cannot be used") from error
    if shapes != {(1, 2)}:
        raise Untrusted("the payload's model does not give two probabilities a row")
    return model, estimator


def find_data_pin(lake: Lake, pipeline: Pipeline, build: Build) -> Pin:
    """The one data commit that the build names, if its branch's history holds it.

    Raises: Untrusted otherwise: what was trained on is then nothing that anybody can read again.
    """
    if set(build.data) != {"data"} or build.data["data"].repository != pipeline.repository:
        raise Untrusted(f"the provenance does not name one commit of {pipeline.repository}")
    pin, branch = Pin(pipeline.repository, build.data["data"].commit), build.branch or ""
    try:
        base = lake.fs.merge_base(pin.repository, pin.commit, branch)
    except NotFound as error:
        raise Untrusted(
            f"the provenance names a data commit or a branch that is not there: {pin.commit[:12]} "
            f"of {branch!r}"
        ) from error
    # What another branch held before it was merged was never what this one stood at.
    past = lake.fs.log(pin.repository, branch, limit=_REACH) if base == pin.commit else ()
    if not any(commit.id == pin.commit for commit in past):
        raise Untrusted(f"data commit {pin.commit[:12]} is not in the history of {branch}")
    return pin


def _require_own_definition(build: Build, pipeline: Pipeline) -> None:
    """Rows rebuilt by another definition would judge another model."""
    own = digest_parts(pipeline)
    if differing := [name for name, digest in own.items() if getattr(build, name) != digest]:
        raise Untrusted(
            f"the candidate's {differing[0].removesuffix('_sha256')} is not this gate's own",
            remedy="deploy the same code to the trainer and the gatekeeper, and train again",
        )
    if build.pipeline != pipeline.name or build.cutoff is None or build.branch is None:
        raise Untrusted("the provenance names another pipeline, or no cutoff, or no branch")
