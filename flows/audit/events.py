"""What the audit log tells: events, and how they are made. No secret, no person but the actor."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from security.audit.log import AuditEntry, Kind
from security.errors import CannotDecrypt, SecurityError
from security.files import read_regular
from security.formats.envelope import INTOTO, MAX_ENVELOPE_BYTES, Verified
from security.formats.strict_json import Identifier, Line, Moment, Name, Sha256
from security.policy.documents import Enrolled, PairRecord, Trust
from security.policy.trust_policy import RULES, TRUST, TrustPolicy
from security.release.index import format_moment
from security.release.verify import GATES, PROVENANCE, RELEASE
from storage.errors import StorageError
from storage.registry import ReleaseRef, layout

_MAX_LINE = 500
# How a service's events begin; what is handed in may speak for nobody else.
SERVICE = "prediction service of "


def _now() -> str:
    return format_moment(datetime.now(UTC))


@dataclass(frozen=True)
class Event:
    """An entry that has no number yet. `digest` is of the subject's payload."""

    kind: Kind
    actor: Line
    subject: Identifier
    role: Name | None = None
    digest: Sha256 | None = None
    key_ids: tuple[Sha256, ...] | None = None
    reason: Line | None = None
    detail: Mapping[Name, Line] | None = None
    at: Moment = field(default_factory=_now)

    def tidied(self) -> "Event":
        """With every free text as one line that can stand in a signed document."""
        return replace(
            self,
            actor=tidy_line(self.actor),
            reason=tidy_line(self.reason) if self.reason else None,
            detail={k: tidy_line(v) for k, v in self.detail.items()} if self.detail else None,
        )

    def entry(self, number: int, transaction: str) -> AuditEntry:
        """The entry of that number, written by that run."""
        told = self.tidied()
        return AuditEntry(
            number=number,
            kind=told.kind,
            at=told.at,
            actor=told.actor,
            subject=told.subject,
            transaction=transaction,
            role=told.role,
            digest=told.digest,
            key_ids=tuple(told.key_ids) if told.key_ids else None,
            reason=told.reason,
            detail=told.detail,
        )


def tidy_line(text: str) -> str:
    """Any text as one visible line of at most 500 characters."""
    joined = " ".join(text.split())
    shown = "".join(
        c if c == " " or _is_visible(c) else "\N{REPLACEMENT CHARACTER}" for c in joined
    )
    return (shown if len(shown) <= _MAX_LINE else shown[: _MAX_LINE - 1] + "…") or "-"


def signed_event(
    verified: Verified,
    *,
    actor: str,
    subject: str,
    role: Enrolled,
    kind: Kind = "signed",
    reason: str | None = None,
    detail: Mapping[str, str] | None = None,
) -> Event:
    """That `verified` was signed, by whom; its digest is that of the payload."""
    digest, keys = sha256(verified.payload).hexdigest(), verified.key_ids
    return Event(kind, actor, subject, role, digest, keys, reason, detail)


def registration_events(
    folder: Path, ref: ReleaseRef, policy: TrustPolicy, actor: str
) -> tuple[Event, ...]:
    """The three signatures of a release folder, the last as its registration.

    A statement that still lacks a second releaser's signature is told with those it has.
    Raises: Untrusted if one is not signed at all.
    """
    view = policy.for_cosigner()

    def read(name: str, role: Enrolled) -> Verified:
        envelope = read_regular(folder / name, max_bytes=MAX_ENVELOPE_BYTES)
        return view.verify(envelope, role=role, payload_type=INTOTO)

    trained, judged = read(PROVENANCE, "trainer"), read(GATES, "gatekeeper")
    return (
        signed_event(trained, actor=actor, subject=f"{ref.path}/provenance", role="trainer"),
        signed_event(judged, actor=actor, subject=f"{ref.path}/gates", role="gatekeeper"),
        signed_event(
            read(RELEASE, "releaser"),
            actor=actor,
            subject=ref.path,
            role="releaser",
            kind="release.registered",
        ),
    )


def refusal_event(
    actor: str,
    subject: str,
    error: BaseException,
    *,
    step: str = "",
    detail: Mapping[str, str] | None = None,
) -> Event:
    """That something was not believed, and why; of a failed decryption also what no caller gets.

    Only our own errors are quoted: what a library says may hold anything.
    """
    known = isinstance(error, SecurityError | StorageError)
    told = {"step": step, "problem": type(error).__name__, **(detail or {})}
    told["withheld"] = str(getattr(error, "detail", ""))
    return Event(
        "decryption.failed" if isinstance(error, CannotDecrypt) else "refused",
        actor,
        subject,
        reason=str(error) if known else type(error).__name__,
        detail={name: text for name, text in told.items() if text},
    )


def policy_events(old: TrustPolicy | None, new: TrustPolicy, actor: str) -> tuple[Event, ...]:
    """Which documents are published, and what that does to whose key."""
    published = (
        Event(
            "policy.published",
            actor,
            layout.policy_path(name),
            role=role,
            digest=digest,
            detail={"edition": f"{new.trust.epoch}.{new.trust.version}.{new.rules.version}"},
        )
        for name, role, digest in (
            (TRUST, "root", new.digests.trust),
            (RULES, "policy", new.digests.rules),
        )
    )
    return (*published, *_key_events(old.trust if old else None, new.trust, actor))


def _key_events(old: Trust | None, new: Trust, actor: str) -> Iterator[Event]:
    before, after = _enrolled_pairs(old), _enrolled_pairs(new)
    gone = {r.key.pair.key_id: r for r in new.revoked}
    known = {r.key.pair.key_id for r in old.revoked} if old else set()
    for key, role in sorted(after.items()):
        if key not in before:
            yield Event("key.enrolled", actor, f"keys/{key}", role=role)
    for key, role in sorted(before.items()):
        if key not in after and key not in gone:
            yield Event("key.retired", actor, f"keys/{key}", role=role)
    for key, revoked in sorted(gone.items()):
        if key not in known:
            held = revoked.role or before.get(key)
            kept = {"kept": str(len(revoked.kept))} if revoked.kept else None
            subject = f"keys/{key}"
            yield Event(
                "key.revoked", actor, subject, role=held, reason=revoked.reason, detail=kept
            )
    yield from _recipient_events(old, new, actor)


def _recipient_events(old: Trust | None, new: Trust, actor: str) -> Iterator[Event]:
    before, after = _enrolled_recipients(old), _enrolled_recipients(new)
    for key in sorted(after.keys() - before.keys()):
        yield Event("recipient.added", actor, f"keys/{key}", detail={"name": after[key]})
    for key in sorted(before.keys() - after.keys()):
        yield Event("recipient.removed", actor, f"keys/{key}", detail={"name": before[key]})


def _enrolled_pairs(trust: Trust | None) -> dict[str, str]:
    roles = trust.roles if trust else {}
    return {_key_id(key): role for role, held in roles.items() for key in held.keys}


def _enrolled_recipients(trust: Trust | None) -> dict[str, str]:
    found = trust.recipients if trust else ()
    return {record.recipient.recipient_id: record.name for record in found}


def _key_id(key: PairRecord) -> str:
    return key.pair.key_id


def _is_visible(character: str) -> bool:
    return not unicodedata.category(character).startswith(("C", "Z"))
