"""What a client remembers so that time cannot be turned back on it: a monotonic floor.

A replica without a place to keep it starts from the policy's minimum; it then cannot know of a
newer index that somebody withholds until the timestamp of the one it was given expires.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from security.errors import Untrusted
from security.files import read_regular, replace_file
from security.formats.strict_json import Name, Sha256, Size, from_bytes, to_bytes
from security.policy.trust_policy import TrustPolicy

CLOCK_SLACK = timedelta(minutes=5)
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Floor:
    """The highest index, policy editions and time that one client has seen.

    Numbers of another policy epoch do not count: raising the epoch is how the root recovers from
    a stolen key that signed a huge number. `seen_s` is Unix time in seconds.
    """

    environment: Name
    number: Size = 0
    digest: Sha256 | None = None
    epoch: Size = 0
    trust_version: Size = 0
    rules_version: Size = 0
    seen_s: Size = 0

    @classmethod
    def load(cls, path: Path, *, environment: str) -> "Floor":
        """The floor kept in `path`, or the lowest one if there is no such file yet.

        Raises: Untrusted if the file is malformed: a lost floor is not silently a low one.
        """
        if not path.exists() and not path.is_symlink():
            return cls(environment)
        floor = from_bytes(cls, read_regular(path, max_bytes=_MAX_BYTES))
        if floor.environment != environment:
            raise Untrusted(
                f"{path.name} is the floor of {floor.environment}", code="trust.wrong_index"
            )
        return floor

    def save(self, path: Path) -> None:
        """Keep this floor in `path`, unless a higher one stands there already."""
        standing = Floor.load(path, environment=self.environment)
        if standing.rank <= self.rank:
            latest = max(self.seen_s, standing.seen_s)
            replace_file(path, to_bytes(replace(self, seen_s=latest)))

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Floors compare by epoch first."""
        return self.epoch, self.number, self.trust_version, self.rules_version

    def raise_to(self, policy: TrustPolicy, *, number: int, digest: str, now: datetime) -> "Floor":
        """This floor after an index was accepted under `policy` at `now`."""
        return Floor(
            environment=self.environment,
            number=number,
            digest=digest,
            epoch=policy.trust.epoch,
            trust_version=policy.trust.version,
            rules_version=policy.rules.version,
            seen_s=max(self.seen_s, int(now.timestamp())),
        )

    def check_clock(self, now: datetime) -> None:
        """Refuse a clock that runs behind the last time seen.

        Raises: Untrusted. A slack of five minutes allows for ordinary corrections.
        """
        seen = datetime.fromtimestamp(self.seen_s, UTC)
        if now < seen - CLOCK_SLACK:
            raise Untrusted(
                f"the clock says {now:%Y-%m-%d %H:%M}, before {seen:%Y-%m-%d %H:%M}, already seen",
                remedy="set this machine's clock; nothing is judged fresh until then",
                code="trust.clock_behind",
            )

    def check_policy(self, policy: TrustPolicy) -> None:
        """Refuse an edition of the policy older than one already used.

        Raises: Untrusted.
        """
        given = (policy.trust.epoch, policy.trust.version, policy.rules.version)
        known = (self.epoch, self.trust_version, self.rules_version)
        if any(new < old for new, old in zip(given, known, strict=True)):
            raise Untrusted(
                "the trust policy is older than one already used here", code="trust.policy_older"
            )

    def check_index(
        self, policy: TrustPolicy, environment: str, number: int, digest: str, previous: str | None
    ) -> None:
        """Refuse an index below the floor, or of another history than the one seen.

        Raises: Untrusted.
        """
        same_epoch = self.epoch == policy.trust.epoch
        lowest = max(policy.minimum_index(environment), self.number if same_epoch else 0)
        if number < lowest:
            raise Untrusted(
                f"index {number} is below the floor, {lowest}: an old index was offered",
                code="trust.index_below_floor",
            )
        if not same_epoch or self.digest is None:
            return
        if number == self.number and digest != self.digest:
            raise Untrusted(
                f"there are two different indexes numbered {number}", code="trust.index_forked"
            )
        if number == self.number + 1 and previous != self.digest:
            raise Untrusted(
                f"index {number} does not follow the index seen before it",
                code="trust.index_forked",
            )
