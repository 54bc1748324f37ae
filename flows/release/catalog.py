"""The registered releases as a person looks at them: who signed what, and where each one runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.context import Context
from flows.errors import Misconfigured
from flows.keys.published_policy import read_published_policy
from flows.trust.installation import local_policy
from flows.trust.newest_index import read_index
from security.errors import SecurityError
from security.files import publish_folder, read_regular
from security.formats.envelope import INTOTO
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, choose_newest, load_root
from security.release.index import Index
from security.release.statement import ModelRelease, parse_release
from security.release.verify import (
    CARD,
    MAX_CARD_BYTES,
    RELEASE,
    PassedStep,
    VerifiedRelease,
    begin_verification,
    run_steps,
)
from storage import registry
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, layout


@dataclass(frozen=True, slots=True)
class ListedRelease:
    """A registered version. Without a valid signature `release` is None and `problem` says why.

    `runs_in` maps each environment whose newest index names it to that index's number.
    """

    ref: ReleaseRef
    release: ModelRelease | None
    key_id: str
    problem: str
    runs_in: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CheckedRelease:
    """A release's verification: the steps that passed, and what the next one refused."""

    steps: tuple[PassedStep, ...]
    verified: VerifiedRelease | None
    refusal: SecurityError | None
    card: str = ""


def read_policy(context: Context, pin: Pin) -> TrustPolicy:
    """The published policy under the pinned root of the keys folder, or a newer one there.

    Raises: Misconfigured without a root, NotFound before anything was published, Untrusted.
    """
    root = context.keys / "root.json"
    if not root.is_file():
        raise Misconfigured(
            f"There is no pinned root in {context.keys}.",
            remedy="Make the keys with `headrace keys init`, or copy the owner's root.json there.",
        )
    policy = read_published_policy(context.lake, pin, load_root(root))
    if policy is None:
        raise NotFound(
            f"{pin.repository} holds no trust policy yet.",
            remedy="The first promotion publishes it.",
        )
    here = local_policy(context.keys)
    return choose_newest(policy, here) if here else policy


def list_releases(lake: Lake, pin: Pin, model: str, policy: TrustPolicy) -> list[ListedRelease]:
    """Every version at the pin, newest first; of each only the releaser's signature is checked."""
    runs = read_running(lake, pin, policy)
    found = reversed(registry.versions(lake, pin, model))
    return [_list_release(lake, pin, ReleaseRef(model, version), policy, runs) for version in found]


def read_running(lake: Lake, pin: Pin, policy: TrustPolicy) -> dict[str, Index]:
    """Environment to its newest index; one whose signature does not hold is left out."""
    found = {}
    for environment in registry.environments(lake, pin):
        numbers = registry.index_numbers(lake, pin, environment)
        try:
            found[environment], _ = read_index(lake, pin, environment, numbers[-1], policy)
        except (SecurityError, IndexError):
            continue
    return found


def check_release(lake: Lake, pin: Pin, ref: ReleaseRef, policy: TrustPolicy) -> CheckedRelease:
    """Every numbered step on a private copy, up to the first that refuses. Raises NotFound."""
    with TemporaryDirectory(prefix="headrace-") as private:
        folder = registry.download(lake, pin, ref.path, Path(private) / "release")
        passed: list[PassedStep] = []
        steps = begin_verification(folder, policy=policy, name=ref.model, version=ref.version)
        try:
            verified = run_steps(steps, on_passed=passed.append)
        except SecurityError as error:
            return CheckedRelease(tuple(passed), None, error)
        card = read_regular(folder / CARD, max_bytes=MAX_CARD_BYTES).decode()
        return CheckedRelease(tuple(passed), verified, None, card)


def copy_release(lake: Lake, pin: Pin, ref: ReleaseRef, folder: Path) -> None:
    """A release and the policy that verifies it, in a new folder for `python -m security verify`.

    Raises: Misconfigured if the folder holds something, NotFound.
    """
    try:
        with publish_folder(folder.absolute()) as partial:
            registry.download(lake, pin, ref.path, partial)
            for name in (TRUST, RULES):
                data = lake.fs.get(pin.repository, pin.commit, layout.policy_path(name))
                (partial / name).write_bytes(data)
    except FileExistsError as error:
        raise Misconfigured(f"{folder} holds something.", remedy="Name a new folder.") from error


def _list_release(
    lake: Lake, pin: Pin, ref: ReleaseRef, policy: TrustPolicy, runs: Mapping[str, Index]
) -> ListedRelease:
    runs_in = {name: index.number for name, index in runs.items() if index.release.path == ref.path}
    try:
        envelope = lake.fs.get(pin.repository, pin.commit, f"{ref.path}/{RELEASE}")
        signed = policy.verify(envelope, role="releaser", payload_type=INTOTO)
        return ListedRelease(ref, parse_release(signed.payload), signed.key_id, "", runs_in)
    except (SecurityError, NotFound) as error:
        return ListedRelease(ref, None, "", str(error), runs_in)
