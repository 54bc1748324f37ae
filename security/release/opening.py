"""Verifying a release and decrypting it in one read of its payload.

Steps 1 to 8 are those of `verify_release`. Step 9 opens the payload instead of hashing it sealed:
every chunk is authenticated, and every plain file's size and digest compared with the signed ones,
which says as much about the same bytes.
"""

from pathlib import Path

from security.keys.pairs import Opener
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import open_sealed_bundle
from security.release.provenance import SealedBundle
from security.release.stanzas import read_stanzas
from security.release.verify import Steps, VerifiedRelease, begin_verification, run_steps


def verify_and_open(
    folder: Path,
    *,
    policy: TrustPolicy,
    recipient: Opener,
    into: Path,
    name: str | None = None,
    version: int | None = None,
) -> VerifiedRelease:
    """Verify a release folder and decrypt its payload into the new private folder `into`.

    Nothing is decrypted before all that is signed has been verified, and `into` appears only when
    every byte of the payload has been too.
    Raises: Untrusted at the first step that fails; CannotDecrypt as `open_bundle` does.
    """
    return run_steps(
        begin_opening(
            folder, policy=policy, recipient=recipient, into=into, name=name, version=version
        )
    )


def begin_opening(
    folder: Path,
    *,
    policy: TrustPolicy,
    recipient: Opener,
    into: Path,
    name: str | None = None,
    version: int | None = None,
) -> Steps:
    """The steps of `verify_and_open`, each yielded once it has passed."""

    def open_payload(folder: Path, sealed: SealedBundle) -> int:
        open_sealed_bundle(folder, sealed, recipient=recipient, into=into)
        return len(read_stanzas(folder).recipients)

    return begin_verification(
        folder, policy=policy, name=name, version=version, payload=open_payload
    )
