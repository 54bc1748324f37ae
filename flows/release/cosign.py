"""A release statement that needs two releasers: each adds a signature to the same statement."""

from flows.release.indexes import verified_release
from security.formats.envelope import INTOTO, add_signature
from security.keys.pairs import RoleSigner
from security.policy.trust_policy import TrustPolicy
from security.release.verify import RELEASE
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef


def cosigned_release(
    lake: Lake,
    pin: Pin,
    ref: ReleaseRef,
    policy: TrustPolicy,
    releaser: RoleSigner,
    *,
    complete: bool = False,
) -> dict[str, bytes]:
    """The release's envelope with this releaser's signature, by path; nothing if it has enough.

    The release is verified by this releaser first. Its digest is the statement's and stays.
    Raises: Untrusted if a step fails, or if `complete` and signatures are still missing.
    """
    path = f"{ref.path}/{RELEASE}"
    standing = lake.fs.get(pin.repository, pin.commit, path)
    needed = policy.trust.roles["releaser"].threshold
    signed = policy.for_cosigner().verify(standing, role="releaser", payload_type=INTOTO)
    if len(signed.key_ids) >= needed:
        return {}
    envelope = standing
    if releaser.public.key_id not in signed.key_ids:
        verified_release(lake, pin, ref, policy.for_cosigner())
        envelope = add_signature(standing, INTOTO, releaser)
    if complete:
        policy.verify(envelope, role="releaser", payload_type=INTOTO)
    return {path: envelope} if envelope != standing else {}
