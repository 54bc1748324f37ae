"""Freshness: the timestamp role says again and again which index is the newest."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

from flows import audit
from flows.context import Context
from flows.trust.installation import Trusted
from flows.trust.key_access import read_signer
from security.errors import Untrusted
from security.policy.floor import Floor
from security.release.index import TIMESTAMP_TYPE, VerifiedIndex, sign_timestamp, verify_index
from storage import registry
from storage.lake import Lake, Pin
from storage.registry import layout
from storage.registry.details import TimestampDetails
from storage.runs import Run

LIFETIME = timedelta(days=7)
RENEW_BEFORE = timedelta(days=4)


def refresh_timestamp(context: Context, *, environment: str) -> bool:
    """Sign a new timestamp for the newest index if the standing one runs out soon.

    True if one was signed.
    Raises: Untrusted if the newest index does not verify, BadKey without the timestamp's key.
    """
    lake, trusted, pin = context.lake, context.trusted, context.pin_releases()
    current, now = trusted.newest_index(lake, pin, environment), datetime.now(UTC)
    if (
        current is None
        or _find_expiry(lake, pin, trusted, environment, current) > now + RENEW_BEFORE
    ):
        return False
    envelope = sign_timestamp(
        current,
        created=now,
        expires=now + LIFETIME,
        signer=read_signer(trusted.keys, "timestamp"),
    )
    number = current.index.number
    stamp = layout.timestamp_subject(environment, number)
    verified = trusted.policy.verify(envelope, role="timestamp", payload_type=TIMESTAMP_TYPE)
    told = audit.signed_event(verified, actor=layout.TIMESTAMP, subject=stamp, role="timestamp")

    def body(run: Run) -> None:
        run.replace(layout.timestamp_path(environment, number), envelope)
        audit.append_events(run, told)
        run.describe(TimestampDetails(environment=environment, index=number))

    run_id = _run_id(lake, pin, trusted, current, now)
    return not context.commit_release(layout.TIMESTAMP, run_id, body).already


def _run_id(lake: Lake, pin: Pin, trusted: Trusted, current: VerifiedIndex, now: datetime) -> str:
    """One run for what stands, whoever starts it twice; within the hour another for the next.

    The hour is there for a stamp that somebody put back: it is replaced a second time.
    """
    environment, number = current.index.environment, current.index.number
    standing = sha256(trusted.timestamp(lake, pin, environment, number) or b"").hexdigest()
    return layout.timestamp_run(environment, current.digest, standing, f"{now:%Y-%m-%dT%H}")


def _find_expiry(
    lake: Lake, pin: Pin, trusted: Trusted, environment: str, current: VerifiedIndex
) -> datetime:
    """When the standing timestamp ends; the beginning of time if there is none that holds."""
    number, never = current.index.number, datetime.min.replace(tzinfo=UTC)
    stamp = trusted.timestamp(lake, pin, environment, number)
    if stamp is None:
        return never
    try:
        found = verify_index(
            registry.index(lake, pin, environment, number),
            environment=environment,
            policy=trusted.policy,
            floor=Floor(environment),
            now=datetime.now(UTC),
            timestamp=stamp,
        )
    except Untrusted:
        return never
    return found.fresh_until or never
