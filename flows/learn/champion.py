"""The release that an environment runs, opened for comparison: its scores and its profile."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from flows import audit
from flows.arrays import Floats
from flows.context import Context
from flows.learn.exported import MODEL, PROFILE, Exported
from flows.trust.key_access import read_recipient
from security.release.bundle import open_bundle
from security.release.load import load_onnx
from security.release.verify import VerifiedRelease, verify_release
from storage import registry
from storage.lake import Pin
from storage.registry import ReleaseRef


@dataclass(frozen=True)
class Champion:
    """A verified release in memory."""

    ref: ReleaseRef
    verified: VerifiedRelease
    profile: bytes
    model: Exported

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Probability of the positive class, shape (n,), for a `feature_frame` of n rows."""
        return self.model.predict(frame)


def open_champion(context: Context, pin: Pin, *, reader: str) -> Champion | None:
    """The release that the environment's newest index names at the pin; None before the first.

    `reader` is the recipient whose key opens it, `serving` or `gatekeeper`.
    """
    found = context.trusted.newest_index(context.lake, pin, context.settings.environment)
    if found is None:
        return None
    named = found.index.release
    return open_release(context, pin, ReleaseRef(named.model, named.version), reader=reader)


def open_release(context: Context, pin: Pin, ref: ReleaseRef, *, reader: str) -> Champion:
    """Verify, decrypt to a private copy that is removed again, and load.

    Raises: Untrusted or CannotDecrypt; nothing was loaded then.
    """
    trusted = context.trusted
    telling = audit.record_refusals(context, actor=reader, subject=ref.path, step="champion")
    with TemporaryDirectory(prefix="headrace-") as private, telling:
        folder = registry.download(context.lake, pin, ref.path, Path(private) / "release")
        verified = verify_release(
            folder, policy=trusted.policy, name=ref.model, version=ref.version
        )
        plain = open_bundle(
            folder,
            verified.release,
            recipient=read_recipient(trusted.keys, reader),
            into=Path(private) / "plain",
        )
        session = load_onnx(plain / MODEL, limits=trusted.policy.limits)
        return Champion(
            ref, verified, (plain / PROFILE).read_bytes(), Exported.read(plain, session)
        )
