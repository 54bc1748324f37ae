"""Does the audit log hold, and does it agree with what stands in the releases repository?

1. log        canonical, numbered, and the tree that its head says
2. checkpoint signed by the timestamp role, and the log begins with what it says
3. floor      the log begins with what this installation last knew
4. releases   each registered one has its entry, with the digest that stands there
5. indexes    likewise, and the newest timestamp
6. policy     the entries end with the published edition
7. entries    each release and index that the log tells of is there
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flows.audit import reading
from flows.audit.checkpoint import read_checkpoint
from security.audit.log import AuditEntry, Checkpoint, Kind
from security.errors import Untrusted
from security.formats.envelope import INTOTO, read_unverified_payload
from security.policy.documents import RULES_TYPE, TRUST_TYPE
from security.policy.trust_policy import RULES, TRUST, TrustPolicy
from security.release.index import INDEX_TYPE, TIMESTAMP_TYPE
from security.release.verify import RELEASE
from storage import registry
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import layout

_INDEXES: frozenset[Kind] = frozenset({"index.promoted", "index.rolled-back"})


@dataclass(frozen=True, slots=True)
class LogExamination:
    """What was found. The log holds if there is no problem."""

    size: int
    root: str
    checkpoint: Checkpoint | None
    known: int
    compared: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    """Something in the repository that the log must tell of: digest as it stands there."""

    subject: str
    digest: str
    kinds: frozenset[Kind]


def examine(lake: Lake, pin: Pin, policy: TrustPolicy, floors: Path) -> LogExamination:
    """Every check; the floor rises if all hold.

    Raises: Untrusted if the log itself does not hold, was truncated, rewritten or forked.
    """
    log = reading.read_log(lake, pin)
    entries = log.entries
    checkpoint = read_checkpoint(lake, pin, policy)
    if checkpoint is not None:
        log.check_grown_from(checkpoint.size, checkpoint.root)
    path = reading.floor_path(floors, pin.repository)
    known = reading.read_floor(path)
    log.check_grown_from(known.size, known.tree.root)
    there = list(_read_standing(lake, pin, told_of={entry.subject for entry in entries}))
    problems = (*_find_untold(there, entries), *_find_unresolved(there, entries))
    if not problems:
        reading.keep_floor(path, reading.read_peaks(lake, pin.repository, pin.commit))
    return LogExamination(len(entries), log.root(), checkpoint, known.size, len(there), problems)


def _find_untold(there: list[_Standing], entries: tuple[AuditEntry, ...]) -> Iterator[str]:
    """What stands there and is not what the newest entry about it says."""
    told = {(e.subject, e.kind): e for e in entries}
    for one in there:
        found = [told[one.subject, kind] for kind in one.kinds if (one.subject, kind) in told]
        newest = max(found, key=lambda entry: entry.number, default=None)
        if newest is None:
            yield f"{one.subject} stands in the repository, and the log does not tell of it"
        elif newest.digest != one.digest:
            yield f"{one.subject} is not what entry {newest.number} tells of"


def _find_unresolved(there: list[_Standing], entries: tuple[AuditEntry, ...]) -> Iterator[str]:
    """Releases and indexes that the log tells of and nobody finds, or that it tells of twice."""
    standing = {one.subject for one in there}
    seen: dict[str, int] = {}
    for entry in entries:
        if entry.kind != "release.registered" and entry.kind not in _INDEXES:
            continue
        if entry.subject not in standing:
            yield f"entry {entry.number} tells of {entry.subject}, which is not there"
        if entry.subject in seen:
            yield f"entries {seen[entry.subject]} and {entry.number} both tell of {entry.subject}"
        seen[entry.subject] = entry.number


def _read_standing(lake: Lake, pin: Pin, told_of: Collection[str]) -> Iterator[_Standing]:
    for model in registry.models(lake, pin):
        for version in registry.versions(lake, pin, model):
            ref = registry.ReleaseRef(model, version)
            digest = _digest(lake, pin, f"{ref.path}/{RELEASE}", INTOTO)
            yield _Standing(ref.path, digest, frozenset({"release.registered"}))
    for environment in registry.environments(lake, pin):
        yield from _digest_indexes(lake, pin, environment)
    published: frozenset[Kind] = frozenset({"policy.published"})
    for name, kind in ((TRUST, TRUST_TYPE), (RULES, RULES_TYPE)):
        path = layout.policy_path(name)
        # Before the first publication there is neither a document nor an entry.
        if (digest := _digest(lake, pin, path, kind)) or path in told_of:
            yield _Standing(path, digest, published)


def _digest_indexes(lake: Lake, pin: Pin, environment: str) -> Iterator[_Standing]:
    for number in registry.index_numbers(lake, pin, environment):
        digest = _digest(lake, pin, layout.index_path(environment, number), INDEX_TYPE)
        yield _Standing(layout.index_subject(environment, number), digest, _INDEXES)
        stamp = _digest(lake, pin, layout.timestamp_path(environment, number), TIMESTAMP_TYPE)
        if stamp:
            subject = layout.timestamp_subject(environment, number)
            yield _Standing(subject, stamp, frozenset({"signed"}))


def _digest(lake: Lake, pin: Pin, path: str, payload_type: str) -> str:
    """The payload's digest; empty if there is no such file or it is no envelope.

    Whether signatures hold is asked elsewhere: here only whether the log tells of these bytes.
    """
    try:
        envelope = lake.fs.get(pin.repository, pin.commit, path)
        return sha256(read_unverified_payload(envelope, payload_type)).hexdigest()
    except (NotFound, Untrusted):
        return ""
