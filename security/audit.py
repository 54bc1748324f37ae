"""The audit log: an append-only Merkle tree over JSON lines, whose past cannot be rewritten.

Whoever keeps a signed checkpoint can later check that the log only grew.
The tree itself is in `merkle`.
"""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from security import canonical, merkle
from security.envelope import sign
from security.errors import Untrusted
from security.files import sync_folder
from security.pairs import Signer
from security.policy import TrustPolicy
from security.record import Moment, Sha256, Size, from_bytes, to_bytes

CHECKPOINT_TYPE = "application/vnd.headrace.checkpoint.v1+json"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Checkpoint:
    """The log's size and root at one time."""

    size: Size
    root: Sha256
    created: Moment


class AuditLog:
    """A log in a folder. One line an entry, each durable before `append` returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG

    def append(self, entry: Mapping[str, Any]) -> int:
        """Add one entry and return its index. Writers on one machine wait for each other."""
        line = canonical.encode(entry) + b"\n"
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            standing = _drop_torn_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if standing == 0:
            sync_folder(self._path.parent)
        return standing

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, oldest first."""
        return [canonical.parse_canonical(line) for line in self._lines()]

    def root(self, size: int | None = None) -> str:
        """The tree's root over the first `size` entries, hex; all of them by default."""
        return merkle.root(self._leaves(size)).hex()

    def inclusion_proof(self, index: int, size: int | None = None) -> list[str]:
        """The hashes that lead from entry `index` to the root over `size` entries."""
        leaves = self._leaves(size)
        if not 0 <= index < len(leaves):
            raise Untrusted(f"the audit log has no entry {index}")
        return [node.hex() for node in merkle.inclusion_proof(index, leaves)]

    def consistency_proof(self, earlier: int) -> list[str]:
        """The hashes that show the first `earlier` entries to be a prefix of today's."""
        leaves = self._leaves(None)
        if not 0 < earlier <= len(leaves):
            raise Untrusted(f"the audit log is shorter than {earlier} entries: it was truncated")
        return [node.hex() for node in merkle.consistency_proof(earlier, leaves)]

    def checkpoint(self, *, created: str, signer: Signer) -> bytes:
        """The timestamp role's envelope round the log's present size and root."""
        leaves = self._leaves(None)
        state = Checkpoint(len(leaves), merkle.root(leaves).hex(), created)
        return sign(to_bytes(state), CHECKPOINT_TYPE, signer.require("timestamp"))

    def check_grown_from(self, envelope: bytes, *, policy: TrustPolicy) -> Checkpoint:
        """Compare this log with an earlier checkpoint.

        Raises: Untrusted if the log was truncated, rewritten or forked since.
        """
        signed = policy.verify(envelope, role="timestamp", payload_type=CHECKPOINT_TYPE)
        past = from_bytes(Checkpoint, signed.payload)
        if past.size > len(self._lines()):
            raise Untrusted(f"the audit log was truncated: it had {past.size} entries")
        if self.root(past.size) != past.root:
            raise Untrusted("the audit log was rewritten: its past has another root")
        return past

    def _lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        # A last line without its newline was never acknowledged.
        return self._path.read_bytes().split(b"\n")[:-1]

    def _leaves(self, size: int | None) -> list[bytes]:
        lines = self._lines()
        if size is not None and not 0 <= size <= len(lines):
            raise Untrusted(f"the audit log is shorter than {size} entries: it was truncated")
        return [merkle.leaf_hash(line) for line in lines[:size]]


def _drop_torn_line(file: BinaryIO) -> int:
    """Cut off a line that a crash left unfinished; return the number of whole ones."""
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        file.truncate(whole)
    return data.count(b"\n")
