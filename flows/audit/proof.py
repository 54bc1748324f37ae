"""The proof that the log tells of a release, made from what stands in the lake."""

from flows.audit.checkpoint import read_checkpoint_envelope
from flows.audit.reading import read_log
from security.audit.log import verify_checkpoint
from security.audit.proof import Proof, prove
from security.errors import Untrusted
from security.policy.trust_policy import RULES, TRUST, TrustPolicy
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, layout


def make_proof(lake: Lake, pin: Pin, release: ReleaseRef, policy: TrustPolicy) -> Proof:
    """Everything the log tells of the release, below the newest checkpoint.

    Raises: Untrusted if the log does not hold, or no checkpoint covers the release yet.
    """
    envelope = read_checkpoint_envelope(lake, pin)
    if envelope is None:
        raise Untrusted(
            "the audit log has no checkpoint yet",
            remedy="the timestamp deployment signs one; so does `headrace audit checkpoint`",
        )
    checkpoint = verify_checkpoint(envelope, policy=policy)
    log = read_log(lake, pin)
    log.check_grown_from(checkpoint.size, checkpoint.root)
    trust, rules = (
        lake.fs.get(pin.repository, pin.commit, layout.policy_path(name)) for name in (TRUST, RULES)
    )
    return prove(
        log, release.path, checkpoint=envelope, size=checkpoint.size, policy=(trust, rules)
    )
