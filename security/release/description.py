"""What a verified release is, in plain words and for programs: by whom, from what, through what."""

from collections.abc import Iterator, Mapping
from typing import Any

from security.formats.strict_json import to_json
from security.policy.trust_policy import TrustPolicy
from security.release.statement import ModelRelease
from security.release.verify import VerifiedRelease

_NOT_SAID = (
    "This says what the release is, not that it is the one to run: an environment's index does."
)


def describe_release(verified: VerifiedRelease, policy: TrustPolicy) -> dict[str, Any]:
    """Everything that the verification established, as JSON; tell_story tells it in sentences."""
    release = verified.release
    build = to_json(release.build)
    return {
        "model": release.model,
        "version": release.version,
        "digest": verified.digest,
        "signedBy": {role: list(keys) for role, keys in verified.signers.items()},
        "root": policy.root.key_id,
        "policy": {"trust": policy.digests.trust, "rules": policy.digests.rules},
        "data": build["data"],
        "dataSha256": build.get("dataSha256"),
        "code": {"commit": release.build.code_commit, "clean": release.build.code_clean},
        "gates": [to_json(result) for result in release.gates],
        "created": release.created,
        "parent": release.parent,
        "steps": [
            {"number": step.number, "title": step.title, "finding": step.finding}
            for step in verified.steps
        ],
        "story": list(tell_story(verified, policy)),
    }


def tell_story(verified: VerifiedRelease, policy: TrustPolicy) -> Iterator[str]:
    """The account as a few sentences for a person."""
    release, by = verified.release, verified.signers
    yield f"{release.model} {release.version} was trained {_describe_data(release)}."
    yield from _describe_training(release)
    yield f"It passed {len(release.gates)} gates: {'; '.join(map(str, release.gates))}."
    signers = "; ".join(
        f"{role} {' and '.join(key[:12] for key in keys)}" for role, keys in by.items()
    )
    root = policy.root.key_id[:12]
    yield f"Signed, classically and post-quantum, by {signers}; the root is {root}."
    replaced = f", in the place of release {release.parent[:12]}" if release.parent else ""
    yield f"Released {release.created} by {release.created_by}{replaced}: {release.reason}."
    yield from _describe_retired_keys(by, policy)
    yield _NOT_SAID


def _describe_data(release: ModelRelease) -> str:
    pins = sorted(release.build.data.items())
    told = ", ".join(f"{name} {pin.repository}@{pin.commit[:12]}" for name, pin in pins)
    return f"from {told or 'no data'}"


def _describe_training(release: ModelRelease) -> Iterator[str]:
    build = release.build
    state = "all of it committed" if build.code_clean else "with changes that nobody committed"
    known = f", with what was known at {build.cutoff}" if build.cutoff else ""
    yield f"Its code is commit {build.code_commit[:12]}, {state}; it ran {build.started}{known}."
    if build.data_sha256:
        named = ", ".join(
            f"{name} {digest[:12]}" for name, digest in sorted(build.data_sha256.items())
        )
        yield f"Digests of its datasets: {named}."


def _describe_retired_keys(by: Mapping[str, tuple[str, ...]], policy: TrustPolicy) -> Iterator[str]:
    signed = {key for keys in by.values() for key in keys}
    for one in policy.trust.revoked:
        if one.key.pair.key_id in signed:
            yield (
                f"Key {one.key.pair.key_id[:12]} has retired since ({one.reason}); "
                "the root still vouches for this statement."
            )
