"""The release that an environment runs, opened for comparison: its scores and its profile."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.learn.fit import Encoding
from flows.trust import Trusted
from security.bundle import open_bundle
from security.keys import load_recipient
from security.load import load_onnx
from security.verify import VerifiedRelease, verify_release
from storage import registry
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef

ONNX, ENCODING, PROFILE = "model.onnx", "encoding.json", "profile.json"


@dataclass(frozen=True)
class Champion:
    """A verified release in memory. `score` gives the probability of the positive class."""

    ref: ReleaseRef
    verified: VerifiedRelease
    profile: bytes
    _session: object
    _encoding: Encoding

    def score(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Shape (n,) for a `feature_frame` of n rows."""
        matrix = self._encoding.matrix(frame)
        output: NDArray[np.float32] = self._session.run(  # type: ignore[attr-defined]
            ["probabilities"], {"features": matrix}
        )[0]
        return output[:, 1].astype(np.float64)


def champion_of(lake: Lake, pin: Pin, environment: str, trusted: Trusted) -> Champion | None:
    """The release that the environment's newest index names; None before the first."""
    found = trusted.newest_index(lake, pin, environment)
    if found is None:
        return None
    release = found.index.release
    return open_release(lake, pin, ReleaseRef(release.model, release.version), trusted)


def open_release(lake: Lake, pin: Pin, ref: ReleaseRef, trusted: Trusted) -> Champion:
    """Verify, decrypt to a private copy that is removed again, and load.

    Raises: Untrusted or CannotDecrypt; nothing was loaded then.
    """
    with TemporaryDirectory(prefix="headrace-") as private:
        folder = registry.download(lake, pin, ref.path, Path(private) / "release")
        verified = verify_release(
            folder, policy=trusted.policy, name=ref.model, version=ref.version
        )
        plain = open_bundle(
            folder,
            verified.release,
            recipient=load_recipient(trusted.keys),
            into=Path(private) / "plain",
        )
        return Champion(
            ref,
            verified,
            (plain / PROFILE).read_bytes(),
            load_onnx(plain / ONNX, limits=trusted.policy.limits),
            Encoding.from_json((plain / ENCODING).read_bytes()),
        )
