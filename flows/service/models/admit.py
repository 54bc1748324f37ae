"""From an offer to models in memory: verified in a fixed order, or refused with the step's name.

    policy     the newest edition, published or local, signed by the pinned root
    index      signed by the releaser, for this environment, not below the floor, fresh
    download   every release that the index names, into a private folder
    release    the numbered steps of security.release.verify
    payload    decrypted to a private copy, every digest compared
    model      loaded from that copy, restricted
    warm-up    the release's own example scored

Nothing is parsed as a model, or even decrypted, before the steps above it have passed:
security.release.trusted_set keeps that order.
"""

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import Misconfigured
from flows.learn.exported import ENCODING, EXAMPLE, MODEL
from flows.service.models.encode import read_encoding
from flows.service.models.model import ServedModel
from flows.service.models.offer import Offer, Source
from flows.service.models.state import LoadedIndex
from flows.trust.installation import local_policy, require_own_releases
from flows.trust.key_access import read_recipient
from security.errors import Untrusted
from security.files import read_regular
from security.policy.floor import Floor
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, load_root
from security.release.index import NamedRelease
from security.release.trusted_set import Freshness, TrustedSet

_MAX_SIDECAR_BYTES = 64 * 2**20
_WORK = "admit-"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A loaded index all of whose steps passed.

    `stale` says why the index is not known to be the newest any more; empty if it is fresh.
    """

    loaded: LoadedIndex
    fresh_until: datetime | None
    stale: str


class Admission:
    """The steps, for one environment. `step` is the one that runs, or the one that refused.

    `keys` holds root.json, the `serving` key and perhaps the signed policy; `folder` is private
    to this service and keeps the floor.
    """

    def __init__(self, *, environment: str, keys: Path, folder: Path, key: str) -> None:
        self._environment, self._keys, self._key = environment, keys, key
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._floor, self._folder = folder / "floor.json", folder
        self.step = ""
        self.release = ""

    def check_keys(self) -> None:
        """Read everything that will be needed of the keys. Raises: SecurityError, Misconfigured."""
        if not (self._keys / "root.json").is_file():
            raise Misconfigured(
                f"there are no keys in {self._keys}", remedy="make them with `headrace keys init`"
            )
        local_policy(self._keys)
        read_recipient(self._keys, "serving")

    def clear(self) -> None:
        """Remove what a killed process may have left decrypted.

        Only while this process holds the spool's lock: another one may be decrypting just now.
        """
        for left in self._folder.glob(f"{_WORK}*"):
            shutil.rmtree(left)

    def admit(self, source: Source, offer: Offer) -> Admitted:
        """Verify and load everything the offered index names.

        Raises: SecurityError, StageError or StorageError; `step` then names what refused.
        """
        now = datetime.now(UTC)
        self.release, self.step = "", "policy"
        trusted = self._trust_policy(offer, now)
        self.step = "index"
        freshness = self._trust_index(offer, trusted)
        index = trusted.index.index

        def load(reference: NamedRelease) -> ServedModel:
            return self._load(source, offer, reference, trusted)

        loaded = LoadedIndex(
            index=index.number,
            index_digest=trusted.index.digest,
            champion=load(index.release),
            canary=load(index.canary.release) if index.canary else None,
            canary_percent=index.canary.percent if index.canary else 0,
            shadow=load(index.shadow) if index.shadow else None,
        )
        return Admitted(loaded, freshness.until, freshness.stale)

    def policy_stamp(self) -> tuple[int, ...]:
        """Changes when the local policy's files do: a revocation is noticed without the lake."""
        files = (self._keys / name for name in (TRUST, RULES))
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)

    def _trust_policy(self, offer: Offer, now: datetime) -> TrustedSet:
        """The newest edition; one that does not verify is refused, never passed over."""
        local = local_policy(self._keys)
        root = load_root(self._keys / "root.json")
        published = TrustPolicy.parse(*offer.policy, root=root) if offer.policy else None
        known = [policy for policy in (local, published) if policy]
        if not known:
            raise Untrusted(
                "there is no trust policy, neither published nor in the keys folder",
                code="trust.policy_missing",
            )
        trusted = TrustedSet(root, now=now)
        trusted.trust_policy(*known)
        return trusted

    def _trust_index(self, offer: Offer, trusted: TrustedSet) -> Freshness:
        floor = Floor.load(self._floor, environment=self._environment)
        index = trusted.trust_index(
            offer.envelope, environment=self._environment, floor=floor
        ).index
        if index.number != offer.number:
            raise Untrusted(
                f"index file {offer.number} holds index {index.number}", code="trust.wrong_index"
            )
        require_own_releases(index, offer.pin.repository)
        freshness = trusted.judge_freshness(offer.timestamp)
        trusted.raise_floor(self._floor)
        return freshness

    def _load(
        self, source: Source, offer: Offer, named: NamedRelease, trusted: TrustedSet
    ) -> ServedModel:
        self.release = f"{named.model}/{named.version}"
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=_WORK) as work:
            self.step = "download"
            folder = source.fetch(offer, named.path, Path(work) / "release")
            self._begin_release_step(1)
            trusted.verify_release(
                folder, named, on_passed=lambda step: self._begin_release_step(step.number + 1)
            )
            self.step = "payload"
            plain = trusted.open_payload(
                named, recipient=read_recipient(self._keys, "serving"), into=Path(work) / "plain"
            )
            self.step = "model"
            model = self._open(plain, named, trusted.policy)
            self.step = "warm-up"
            model.warm_up(read_regular(plain / EXAMPLE, max_bytes=_MAX_SIDECAR_BYTES))
        return model

    def _begin_release_step(self, number: int) -> None:
        self.step = f"release, step {number}"

    def _open(self, plain: Path, reference: NamedRelease, policy: TrustPolicy) -> ServedModel:
        # Late: it imports every loader, and the service should answer /health before that.
        from security.release.load import load_onnx

        encoding = read_encoding(read_regular(plain / ENCODING, max_bytes=_MAX_SIDECAR_BYTES))
        session = load_onnx(plain / MODEL, limits=policy.limits)
        return ServedModel(reference, encoding, key=self._key, session=session)
