"""The audit log: typed entries, one canonical JSON line each, under one Merkle tree.

An append knows only the tree's peaks and the last segment. Whoever keeps a signed checkpoint, or
the peaks of an earlier day, can later check that the log only grew. The tree is in `merkle`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from security.audit import merkle
from security.audit.merkle import CompactRange
from security.errors import Untrusted
from security.formats.envelope import sign
from security.formats.strict_json import (
    Identifier,
    Line,
    Moment,
    Name,
    Sha256,
    Size,
    from_bytes,
    to_bytes,
)
from security.keys.pairs import RoleSigner
from security.policy.trust_policy import TrustPolicy

CHECKPOINT_TYPE = "application/vnd.headrace.checkpoint.v1+json"
SEGMENT = 64

Kind = Literal[
    "policy.published",
    "key.enrolled",
    "key.retired",
    "key.revoked",
    "recipient.added",
    "recipient.removed",
    "signed",
    "release.registered",
    "index.promoted",
    "index.rolled-back",
    "proposal.made",
    "proposal.approved",
    "refused",
    "decryption.failed",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class AuditEntry:
    """What happened, when, by whom, to what.

    `transaction` is the id of the run that wrote the entry: two writers who take one number
    differ in it. `digest` is that of the subject's payload, `key_ids` are the pairs that signed
    it. Nothing here is secret, and no person but the actor is named.
    """

    number: Size
    kind: Kind
    at: Moment
    actor: Line
    subject: Identifier
    transaction: Identifier
    role: Name | None = None
    digest: Sha256 | None = None
    key_ids: tuple[Sha256, ...] | None = None
    reason: Line | None = None
    detail: Mapping[Name, Line] | None = None
    type: Literal["headrace.dev/audit/v1"] = "headrace.dev/audit/v1"


@dataclass(frozen=True)
class Checkpoint:
    """The log's size and root at one time."""

    size: Size
    root: Sha256
    created: Moment


@dataclass(frozen=True)
class Peaks:
    """A log's size and the peaks of its tree, as the log and its readers keep them."""

    size: Size = 0
    peaks: tuple[Sha256, ...] = ()

    @classmethod
    def of(cls, tree: CompactRange) -> "Peaks":
        """The peaks of a tree."""
        return cls(tree.size, tuple(node.hex() for node in tree.nodes))

    @cached_property
    def tree(self) -> CompactRange:
        """The tree that goes on from here. Raises: Untrusted if size and peaks disagree."""
        return CompactRange(self.size, tuple(bytes.fromhex(peak) for peak in self.peaks))

    def grow(self, tail: Sequence[bytes], lines: Sequence[bytes]) -> "Peaks":
        """The peaks after `lines`; `tail` is what the last segment holds now.

        Raises: Untrusted if the tail is not the end of this log.
        """
        self.check_tail(tail)
        return Peaks.of(self.tree.grow(map(merkle.hash_leaf, lines)))

    def check_tail(self, tail: Sequence[bytes]) -> None:
        """Refuse a last segment that is not the one the peaks were made of.

        Raises: Untrusted. Segments are powers of two, so a tail has peaks of its own.
        """
        own, peaks = CompactRange().grow(map(merkle.hash_leaf, tail)).nodes, self.tree.nodes
        if len(tail) != self.size % SEGMENT or own != peaks[len(peaks) - len(own) :]:
            raise Untrusted(
                f"the audit log's last segment is not the end of its {self.size} entries",
                remedy="run `headrace audit verify`; somebody wrote to the log by other means",
                code="trust.log_forked",
            )


@dataclass(frozen=True)
class Log:
    """All of a log: its lines, oldest first."""

    lines: tuple[bytes, ...]

    @cached_property
    def leaves(self) -> list[bytes]:
        """The tree's leaves."""
        return [merkle.hash_leaf(line) for line in self.lines]

    @cached_property
    def entries(self) -> tuple[AuditEntry, ...]:
        """The entries, read strictly.

        Raises: Untrusted for a line that is no entry, or does not bear its own number.
        """
        found = []
        for number, line in enumerate(self.lines):
            entry = from_bytes(AuditEntry, line)
            if entry.number != number:
                raise Untrusted(
                    f"entry {number} of the audit log is numbered {entry.number}",
                    code="trust.malformed",
                )
            found.append(entry)
        return tuple(found)

    def root(self, size: int | None = None) -> str:
        """The root over the first `size` entries, hex; over all of them by default."""
        return merkle.root(self._first(size)).hex()

    def inclusion_proof(self, number: int, size: int | None = None) -> tuple[str, ...]:
        """The hashes that lead from an entry to the root over `size` entries."""
        leaves = self._first(size)
        if not 0 <= number < len(leaves):
            raise Untrusted(f"the audit log has no entry {number}", code="trust.not_in_log")
        return tuple(node.hex() for node in merkle.inclusion_proof(number, leaves))

    def consistency_proof(self, earlier: int) -> tuple[str, ...]:
        """The hashes that show the first `earlier` entries to be a prefix of today's."""
        if earlier < 1:
            raise Untrusted("a consistency proof starts from one entry or more")
        self._first(earlier)
        return tuple(node.hex() for node in merkle.consistency_proof(earlier, self.leaves))

    def check_grown_from(self, size: int, root: str) -> None:
        """Compare with what the log was once known to be.

        Raises: Untrusted if it was truncated, rewritten or forked since.
        """
        if self.root(size) != root:
            raise fork_error(size)

    def _first(self, size: int | None) -> list[bytes]:
        if size is not None and not 0 <= size <= len(self.leaves):
            raise truncation_error(size, len(self.leaves))
        return self.leaves[:size]


def check_growth(known: Peaks, now: Peaks, lines: Sequence[bytes]) -> None:
    """Check that `now` is `known` with more entries; `lines` begin with known's last segment.

    Reads what was added, not the whole log. Raises: Untrusted if it was truncated or forked.
    """
    if now.size < known.size:
        raise truncation_error(known.size, now.size)
    held = known.size % SEGMENT
    try:
        grown = known.grow(lines[:held], lines[held:])
    except Untrusted:
        raise fork_error(known.size) from None
    if grown != now:
        raise fork_error(known.size)


def encode_entry(entry: AuditEntry) -> bytes:
    """The entry's line, without its newline. Raises: Untrusted for what no reader would take."""
    return to_bytes(entry)


def split_segment(segment: bytes) -> list[bytes]:
    """The lines of a segment. Raises: Untrusted if the last one is torn."""
    *lines, rest = segment.split(b"\n")
    if rest or len(lines) > SEGMENT:
        raise Untrusted("a segment of the audit log is torn or too long", code="trust.malformed")
    return lines


def sign_checkpoint(state: Peaks, *, created: str, signer: RoleSigner) -> bytes:
    """The timestamp role's envelope round a size and root that it verified itself."""
    checkpoint = Checkpoint(state.size, state.tree.root, created)
    return sign(to_bytes(checkpoint), CHECKPOINT_TYPE, signer.require("timestamp"))


def verify_checkpoint(envelope: bytes, *, policy: TrustPolicy) -> Checkpoint:
    """The checkpoint, if the timestamp role signed it. Raises: Untrusted."""
    signed = policy.verify(envelope, role="timestamp", payload_type=CHECKPOINT_TYPE)
    return from_bytes(Checkpoint, signed.payload)


def truncation_error(known: int, now: int) -> Untrusted:
    """What a log that lost entries is refused with."""
    return Untrusted(
        f"the audit log was truncated: it had {known} entries and has {now}",
        remedy="bring the releases repository back from its history or a backup",
        code="trust.log_truncated",
    )


def fork_error(known: int) -> Untrusted:
    """What a log with another past is refused with."""
    return Untrusted(
        f"the audit log was rewritten or forked: its first {known} entries have another root",
        remedy="bring the releases repository back from its history or a backup",
        code="trust.log_forked",
    )
