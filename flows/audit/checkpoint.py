"""The timestamp role's checkpoints: its word for the log's size and root, which verifiers keep."""

from datetime import UTC, datetime

from flows.audit import reading
from flows.context import Context
from flows.trust import key_access
from security.audit.log import Checkpoint, sign_checkpoint, verify_checkpoint
from security.policy.trust_policy import TrustPolicy
from security.release.index import format_moment
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import layout
from storage.registry.details import CheckpointDetails
from storage.runs import Run


def refresh_checkpoint(context: Context) -> bool:
    """Sign a checkpoint if the log grew since the standing one; True if one was signed.

    The signer goes by what it knew of the log itself, and by the standing checkpoint.
    Raises: Untrusted if the log was truncated, rewritten or forked; BadKey without the role.
    """
    lake, trusted, pin = context.lake, context.trusted, context.pin_releases()
    known = reading.read_floor(reading.floor_path(trusted.floors, pin.repository))
    now = reading.check_grown(lake, pin, trusted.floors)
    standing = read_checkpoint(lake, pin, trusted.policy)
    if now.size == (standing.size if standing else 0):
        return False
    if standing is not None and standing.size > known.size:
        # Another place of this role signed it: this one has not seen that part of the log grow.
        reading.read_log(lake, pin).check_grown_from(standing.size, standing.root)
    signer = key_access.read_signer(trusted.keys, "timestamp")
    envelope = sign_checkpoint(now, created=format_moment(datetime.now(UTC)), signer=signer)

    def body(run: Run) -> None:
        run.replace(layout.AUDIT_CHECKPOINT, envelope)
        run.describe(CheckpointDetails(size=now.size, root=now.tree.root))

    run_id = layout.checkpoint_run(now.size, now.tree.root)
    return not context.commit_release(layout.CHECKPOINT, run_id, body).already


def read_checkpoint(lake: Lake, pin: Pin, policy: TrustPolicy) -> Checkpoint | None:
    """The checkpoint at the pin; None before the first. Raises: Untrusted if it is nobody's."""
    envelope = read_checkpoint_envelope(lake, pin)
    return verify_checkpoint(envelope, policy=policy) if envelope is not None else None


def read_checkpoint_envelope(lake: Lake, pin: Pin) -> bytes | None:
    """The checkpoint's bytes as they stand; None before the first."""
    try:
        return lake.fs.get(pin.repository, pin.commit, layout.AUDIT_CHECKPOINT)
    except NotFound:
        return None
