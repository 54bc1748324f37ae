"""The order of trust: what a client may believe after what, from a pinned root to open files.

Each step believes only what the steps before it verified. The caller fetches bytes and keeps
files; this keeps the order:

    1. root       pinned by the owner of this machine; nothing that was fetched can replace it
    2. policy     every edition known here is signed by the root; the newest of them counts, and
                  editions that contradict each other are refused (`trust_policy`)
    3. index      clock and policy are not behind the floor; enough releasers signed it; it is for
                  this environment; not below the floor, and of the history seen (`trust_index`)
    4. timestamp  the timestamp role says that this index is the newest; without one an index is
                  fresh for a day. A stale index is followed no further than it already was: if
                  the floor does not know it, it is refused (`judge_freshness`)
    5. floor      rises to this policy and index, and is kept, before anything that the index
                  names is looked at (`raise_floor`)
    6. release    one that the index names: the numbered steps of `verify`, its gate evidence
                  judged again, and its digest is the index's (`verify_release`)
    7. open       its payload is decrypted to a private copy; every digest is compared
                  (`open_payload`)

Steps 6 and 7 are repeated for each release that the index names. Step 4 may be left out by who
follows an index without running it, as a releaser does: then the floor alone judges its age.

A set is for one reading. A call out of order is a mistake of the program and raises RuntimeError;
a step that refuses ends the set, and every later call raises RuntimeError as well.
Source of the shape: theupdateframework/python-tuf, `ngclient/_internal/trusted_metadata_set.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from security.errors import Untrusted
from security.keys.pairs import Opener, PublicPair
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy, choose_newest
from security.release.bundle import open_bundle
from security.release.index import (
    NamedRelease,
    VerifiedIndex,
    read_moment,
    verify_index,
    verify_timestamp,
)
from security.release.verify import PassedStep, VerifiedRelease, begin_verification, run_steps

T = TypeVar("T")

# For so long an index speaks for its own freshness; then the timestamp role has to.
GRACE = timedelta(days=1)


class Stage(IntEnum):
    """How far a set has come."""

    ROOT = 1
    POLICY = 2
    INDEX = 3
    TIMESTAMP = 4
    FLOOR = 5
    REFUSED = 6


@dataclass(frozen=True)
class Freshness:
    """Until when an index is known to be the newest; `stale` says why it is not, or is empty."""

    until: datetime | None
    stale: str


class TrustedSet:
    """What one reading believes so far. `stage` is the last step that passed."""

    def __init__(self, root: PublicPair, *, now: datetime) -> None:
        self.stage = Stage.ROOT
        self._root, self._now = root, now
        self._policy: TrustPolicy | None = None
        self._floor: Floor | None = None
        self._index: VerifiedIndex | None = None
        self._releases: dict[NamedRelease, tuple[Path, VerifiedRelease]] = {}

    @property
    def policy(self) -> TrustPolicy:
        """The policy of step 2. Raises: RuntimeError before it, and after a refusal."""
        return self._require(self._policy, "policy")

    @property
    def index(self) -> VerifiedIndex:
        """The index of step 3. Raises: RuntimeError before it, and after a refusal."""
        return self._require(self._index, "index")

    def trust_policy(self, one: TrustPolicy, *others: TrustPolicy) -> TrustPolicy:
        """Step 2: the newest of the editions known, each of which the pinned root has signed.

        Raises: Untrusted if one is of another root, or they contradict each other.
        """
        with self._step({Stage.ROOT}, Stage.POLICY):
            for policy in (one, *others):
                if policy.root != self._root:
                    raise Untrusted(
                        "the trust policy is not signed by the pinned root", code="trust.wrong_root"
                    )
            self._policy = choose_newest(one, *others)
        return self._policy

    def trust_index(self, envelope: bytes, *, environment: str, floor: Floor) -> VerifiedIndex:
        """Step 3: what `environment` should run, no older than the client's `floor` allows.

        Raises: Untrusted.
        """
        with self._step({Stage.POLICY}, Stage.INDEX):
            self._index = verify_index(
                envelope, environment=environment, policy=self.policy, floor=floor, now=self._now
            )
            self._floor = floor
        return self._index

    def judge_freshness(self, timestamp: bytes | None) -> Freshness:
        """Step 4: whether the index is known to be the newest; `timestamp` is its newest stamp.

        Raises: Untrusted if it is not, and this client did not follow it before.
        """
        with self._step({Stage.INDEX}, Stage.TIMESTAMP):
            found = self._judge(timestamp)
            if found.stale and self._require(self._floor, "floor").digest != self.index.digest:
                raise Untrusted(
                    found.stale,
                    remedy="see that the timestamp deployment runs",
                    code="trust.stale_timestamp",
                )
        return found

    def raise_floor(self, path: Path) -> Floor:
        """Step 5: remember policy and index in `path`, so that time cannot be turned back on them.

        Raises: Untrusted if the file there is malformed, OSError if it cannot be written.
        """
        with self._step({Stage.INDEX, Stage.TIMESTAMP}, Stage.FLOOR):
            floor = self._require(self._floor, "floor").raise_to(
                self.policy,
                number=self.index.index.number,
                digest=self.index.digest,
                now=self._now,
            )
            floor.save(path)
        return floor

    def verify_release(
        self,
        folder: Path,
        named: NamedRelease,
        *,
        on_passed: Callable[[PassedStep], object] | None = None,
    ) -> VerifiedRelease:
        """Step 6: a release that the index names, in `folder`.

        Each numbered step is handed to `on_passed` once it passed. Raises: Untrusted.
        """
        with self._step({Stage.FLOOR}, Stage.FLOOR):
            if named not in self.index.index.releases:
                raise Untrusted("the index does not name this release", code="trust.wrong_release")
            steps = begin_verification(
                folder, policy=self.policy, name=named.model, version=named.version
            )
            verified = run_steps(steps, on_passed=on_passed)
            if verified.digest != named.digest:
                raise Untrusted(
                    "the release is not the one that the index names", code="trust.wrong_release"
                )
            self._releases[named] = (folder, verified)
        return verified

    def open_payload(self, named: NamedRelease, *, recipient: Opener, into: Path) -> Path:
        """Step 7: the payload of a verified release, decrypted into the new private folder `into`.

        Raises: CannotDecrypt, the same for every cause; Untrusted if files differ from the release.
        """
        with self._step({Stage.FLOOR}, Stage.FLOOR):
            folder, verified = self._require(self._releases.get(named), "release")
            return open_bundle(folder, verified.release, recipient=recipient, into=into)

    @contextmanager
    def _step(self, after: set[Stage], reached: Stage) -> Iterator[None]:
        if self.stage not in after:
            raise RuntimeError(f"out of the order of trust: {reached.name} after {self.stage.name}")
        try:
            yield
        except BaseException:
            self.stage = Stage.REFUSED
            raise
        self.stage = reached

    def _require(self, found: T | None, what: str) -> T:
        if found is None or self.stage is Stage.REFUSED:
            raise RuntimeError(f"out of the order of trust: there is no verified {what}")
        return found

    def _judge(self, timestamp: bytes | None) -> Freshness:
        if timestamp is None:
            until = read_moment(self.index.index.created) + GRACE
            fresh = self._now < until
            number = self.index.index.number
            return Freshness(until, "" if fresh else f"index {number} has no timestamp")
        try:
            until = verify_timestamp(timestamp, self.index, policy=self.policy, now=self._now)
            return Freshness(until, "")
        except Untrusted as error:
            return Freshness(None, str(error))
