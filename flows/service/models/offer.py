"""What the lake offers an environment: the newest index file, and releases to fetch by path."""

from dataclasses import dataclass
from pathlib import Path

from security.policy.trust_policy import RULES, TRUST
from storage import registry
from storage.errors import NotFound
from storage.lake import MAIN, Lake, Pin, releases
from storage.registry import layout


@dataclass(frozen=True, slots=True)
class Offer:
    """Unverified bytes at one commit of the releases repository.

    `number` is what the file's name says; `policy` are the published trust and rules. Nothing
    here may be believed before it is verified.
    """

    pin: Pin
    number: int
    envelope: bytes
    timestamp: bytes | None
    policy: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Source:
    """One environment of one pipeline in a lake."""

    lake: Lake
    pipeline: str
    environment: str

    def head(self) -> str:
        """The releases repository's newest commit: one cheap call. Raises StorageError."""
        return self.lake.fs.head(releases(self.pipeline), MAIN)

    def newest(self, commit: str) -> Offer | None:
        """The environment's newest index at the commit; None before the first."""
        pin = Pin(releases(self.pipeline), commit)
        numbers = registry.index_numbers(self.lake, pin, self.environment)
        if not numbers:
            return None
        envelope = registry.index(self.lake, pin, self.environment, numbers[-1])
        stamp = layout.timestamp_path(self.environment, numbers[-1])
        trust, rules = (self._get(pin, layout.policy_path(name)) for name in (TRUST, RULES))
        policy = (trust, rules) if trust is not None and rules is not None else None
        return Offer(pin, numbers[-1], envelope, self._get(pin, stamp), policy)

    def fetch(self, offer: Offer, path: str, into: Path) -> Path:
        """Copy a release folder into a new private folder. Raises StorageError."""
        into.mkdir(mode=0o700)
        return registry.download(self.lake, offer.pin, path, into)

    def _get(self, pin: Pin, path: str) -> bytes | None:
        try:
            return self.lake.fs.get(pin.repository, pin.commit, path)
        except NotFound:
            return None
