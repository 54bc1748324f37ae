"""A proof that the audit log tells of a release, for somebody who has neither the lake nor the log.

One file holds the entries, their inclusion proofs, a signed checkpoint and the policy that names
the checkpoint's signer; the reader brings the pinned root.
"""

from dataclasses import dataclass
from typing import Literal

from security.audit import merkle
from security.audit.log import AuditEntry, Checkpoint, Log, verify_checkpoint
from security.errors import Untrusted
from security.formats import canonical
from security.formats.strict_json import Identifier, from_bytes, from_json, to_json
from security.keys.pairs import PublicPair
from security.policy.trust_policy import TrustPolicy

MAX_PROOF_BYTES = 2**20


# The envelopes of trust and rules.
PolicyEnvelopes = tuple[bytes, bytes]


@dataclass(frozen=True)
class Included:
    """One entry's line and the hashes beside its way up to the root."""

    line: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """Everything about one subject that stands in the log below a checkpoint.

    `checkpoint`, `trust` and `rules` are envelopes as they stand in the lake.
    """

    subject: Identifier
    entries: tuple[Included, ...]
    checkpoint: str
    trust: str
    rules: str
    type: Literal["headrace.dev/audit-proof/v1"] = "headrace.dev/audit-proof/v1"


@dataclass(frozen=True)
class Proven:
    """What a proof shows: these entries are in the log that the checkpoint is about."""

    subject: str
    entries: tuple[AuditEntry, ...]
    checkpoint: Checkpoint


def prove(
    log: Log, subject: str, *, checkpoint: bytes, size: int, policy: PolicyEnvelopes
) -> Proof:
    """The proof for every entry about `subject` below the checkpoint, which is over `size` entries.

    Raises: Untrusted if there is none. The caller has verified log and checkpoint.
    """
    numbers = [e.number for e in log.entries[:size] if e.subject == subject]
    if not numbers:
        raise Untrusted(
            f"no entry about {subject} stands below the newest checkpoint, of {size} entries",
            remedy="wait for the next checkpoint: the timestamp deployment signs it",
            code="trust.not_in_log",
        )
    found = (Included(log.lines[n].decode(), log.inclusion_proof(n, size)) for n in numbers)
    trust, rules = (envelope.decode() for envelope in policy)
    return Proof(subject, tuple(found), checkpoint.decode(), trust, rules)


def to_text(proof: Proof) -> str:
    """The proof as a file."""
    return canonical.encode(to_json(proof)).decode() + "\n"


def verify_proof(data: bytes, *, root: PublicPair) -> Proven:
    """Check the policy from the pinned root down, the checkpoint, and every entry.

    Raises: Untrusted at the first step that fails.
    """
    # 1. The file, and that it is a proof.
    given = canonical.parse(data, max_bytes=MAX_PROOF_BYTES)
    proof = from_json(Proof, given, "proof")
    # 2. The policy, signed by the pinned root.
    policy = TrustPolicy.parse(proof.trust.encode(), proof.rules.encode(), root=root)
    # 3. The checkpoint, signed by the timestamp role.
    checkpoint = verify_checkpoint(proof.checkpoint.encode(), policy=policy)
    # 4. Each entry: about the subject, and in the tree.
    if not proof.entries:
        raise Untrusted("the proof holds no entry", code="trust.not_in_log")
    found = tuple(_verify_entry(one, proof.subject, checkpoint) for one in proof.entries)
    return Proven(proof.subject, found, checkpoint)


def _verify_entry(one: Included, subject: str, checkpoint: Checkpoint) -> AuditEntry:
    line = one.line.encode()
    entry = from_bytes(AuditEntry, line)
    if entry.subject != subject:
        raise Untrusted(
            f"entry {entry.number} is about {entry.subject}, not {subject}", code="trust.not_in_log"
        )
    leaf = merkle.hash_leaf(line)
    merkle.verify_inclusion(leaf, entry.number, checkpoint.size, one.path, checkpoint.root)
    return entry
