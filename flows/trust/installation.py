"""The trust policy and the index floors that this installation goes by."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import Misconfigured
from security.errors import Untrusted
from security.policy.floor import Floor
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, load_root
from security.release.index import Index, VerifiedIndex
from security.release.trusted_set import TrustedSet
from storage import registry
from storage.errors import NotFound
from storage.lake import Lake, Pin, releases
from storage.registry import layout


@dataclass(frozen=True, slots=True)
class Trusted:
    """The policy under the pinned root in the keys folder, and where floors are kept."""

    policy: TrustPolicy
    keys: Path
    floors: Path

    @classmethod
    def load(cls, keys: Path) -> "Trusted":
        """Raises: Misconfigured before `headrace keys init`, Untrusted for a forged policy."""
        root = keys / "root.json"
        if not root.is_file():
            raise Misconfigured(
                f"There are no keys in {keys}.", remedy="Make them with `headrace keys init`."
            )
        return cls(TrustPolicy.load(keys, root=load_root(root)), keys, keys.parent / "floors")

    def newest_index(
        self, lake: Lake, pin: Pin, environment: str, *, remember: bool = True
    ) -> VerifiedIndex | None:
        """What the environment should run, verified and never older than seen before.

        None before the first. Without `remember` the floor is judged, and stays where it is.
        Raises: Untrusted.
        """
        numbers = registry.index_numbers(lake, pin, environment)
        if not numbers:
            return None
        envelope = registry.index(lake, pin, environment, numbers[-1])
        found = self.verify_index(envelope, environment, pin.repository, remember=remember)
        if found.index.number != numbers[-1]:
            raise Untrusted(
                f"index file {numbers[-1]} holds index {found.index.number}",
                code="trust.wrong_index",
            )
        return found

    def verify_index(
        self, envelope: bytes, environment: str, repository: str, *, remember: bool = True
    ) -> VerifiedIndex:
        """The index of a releases repository in the envelope; raises the floor. Raises: Untrusted.

        Pipelines that share a policy have environments of the same name, and a floor each.
        """
        path = self.floors / repository / f"{environment}.json"
        floor, now = Floor.load(path, environment=environment), datetime.now(UTC)
        trusted = TrustedSet(self.policy.root, now=now)
        trusted.trust_policy(self.policy)
        found = trusted.trust_index(envelope, environment=environment, floor=floor)
        require_own_releases(found.index, repository)
        if remember:
            path.parent.mkdir(parents=True, exist_ok=True)
            trusted.raise_floor(path)
        return found

    def timestamp(self, lake: Lake, pin: Pin, environment: str, number: int) -> bytes | None:
        """The newest timestamp statement of an index, if it has one."""
        path = layout.timestamp_path(environment, number)
        try:
            return lake.fs.get(pin.repository, pin.commit, path)
        except NotFound:
            return None


def require_own_releases(index: Index, repository: str) -> None:
    """Refuse an index of another pipeline under the same policy. Raises: Untrusted."""
    for reference in index.releases:
        if releases(reference.model) != repository:
            raise Untrusted(
                f"the index names a release of {reference.model}, in {repository}",
                code="trust.wrong_index",
            )


def local_policy(keys_folder: Path) -> TrustPolicy | None:
    """The policy in a keys folder, if there is one beside its root. Raises: Untrusted."""
    if not any((keys_folder / name).exists() for name in (TRUST, RULES)):
        return None
    return TrustPolicy.load(keys_folder, root=load_root(keys_folder / "root.json"))
