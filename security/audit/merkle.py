"""The Merkle tree of RFC 6962: roots, and proofs that an entry or a past is in it.

Source: RFC 6962, section 2.1 (hashes, proofs); RFC 9162, section 2.1 (their verification).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from security.errors import Untrusted

_HASH_BYTES = 32


@dataclass(frozen=True)
class CompactRange:
    """All that a growing tree needs of its past: the roots of its perfect subtrees, largest first.

    There is one for each bit set in `size`, so an append costs a logarithm of the log, at most.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nodes) != self.size.bit_count():
            raise Untrusted(
                f"a tree of {self.size} entries has {self.size.bit_count()} peaks",
                code="trust.malformed",
            )

    def grow(self, leaves: Iterable[bytes]) -> "CompactRange":
        """The range after `leaves` were added."""
        size, nodes = self.size, list(self.nodes)
        for leaf in leaves:
            nodes.append(leaf)
            # Every one bit at the end of the old size is a perfect subtree that is now a left half.
            for _ in range(_count_trailing_ones(size)):
                right = nodes.pop()
                nodes.append(_hash_node(nodes.pop(), right))
            size += 1
        return CompactRange(size, tuple(nodes))

    @property
    def root(self) -> str:
        """The tree's root, hex."""
        if not self.nodes:
            return root([]).hex()
        *left, folded = self.nodes
        for node in reversed(left):
            folded = _hash_node(node, folded)
        return folded.hex()


def hash_leaf(line: bytes) -> bytes:
    """The hash of one entry's canonical bytes."""
    return hashlib.sha256(b"\0" + line).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash over `leaves`."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = _find_split(len(leaves))
    return _hash_node(root(leaves[:split]), root(leaves[split:]))


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes beside the way from leaf `index` up to the root."""
    if len(leaves) == 1:
        return []
    split = _find_split(len(leaves))
    if index < split:
        return [*inclusion_proof(index, leaves[:split]), root(leaves[split:])]
    return [*inclusion_proof(index - split, leaves[split:]), root(leaves[:split])]


def consistency_proof(earlier: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """The hashes that show the first `earlier` leaves to be a prefix of `leaves`."""
    if earlier == len(leaves):
        return [] if whole else [root(leaves)]
    split = _find_split(len(leaves))
    if earlier <= split:
        kept = consistency_proof(earlier, leaves[:split], whole=whole)
        return [*kept, root(leaves[split:])]
    kept = consistency_proof(earlier - split, leaves[split:], whole=False)
    return [*kept, root(leaves[:split])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[str], expected: str
) -> None:
    """Check that `leaf` stands at `index` in the log of `size` entries with that root.

    Raises: Untrusted. Source: RFC 9162, section 2.1.3.2.
    """
    place, last, node = index, size - 1, leaf
    if not 0 <= index < size or len(leaf) != _HASH_BYTES:
        raise Untrusted("the entry is not in the audit log", code="trust.not_in_log")
    for step in _read_hashes(proof):
        if last == 0:
            raise Untrusted("the inclusion proof is too long", code="trust.not_in_log")
        if place & 1 or place == last:
            node = _hash_node(step, node)
            place, last = _climb(place, last)
        else:
            node = _hash_node(node, step)
        place, last = place >> 1, last >> 1
    if last != 0 or node.hex() != expected:
        raise Untrusted("the entry is not in the audit log", code="trust.not_in_log")


def verify_consistency(
    earlier: int, earlier_root: str, size: int, later_root: str, proof: Sequence[str]
) -> None:
    """Check that the log of `size` entries begins with the log of `earlier` entries.

    Raises: Untrusted. Source: RFC 9162, section 2.1.4.2.
    """
    if not 0 < earlier <= size:
        raise Untrusted("the audit log was truncated", code="trust.log_truncated")
    if earlier == size:
        if proof or earlier_root != later_root:
            raise Untrusted("the audit log was forked", code="trust.log_forked")
        return
    steps = _read_hashes(proof)
    if earlier & (earlier - 1) == 0:
        steps[:0] = _read_hashes([earlier_root])
    if not steps or _replay(earlier - 1, size - 1, steps) != (earlier_root, later_root):
        raise Untrusted("the audit log was forked", code="trust.log_forked")


def _replay(place: int, last: int, steps: list[bytes]) -> tuple[str, str]:
    """The two roots that a consistency proof leads to."""
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return "", ""
        if place & 1 or place == last:
            old, new = _hash_node(step, old), _hash_node(step, new)
            place, last = _climb(place, last)
        else:
            new = _hash_node(new, step)
        place, last = place >> 1, last >> 1
    return (old.hex(), new.hex()) if last == 0 else ("", "")


def _climb(place: int, last: int) -> tuple[int, int]:
    """Up through the levels at which the node is an only child."""
    while place and not place & 1:
        place, last = place >> 1, last >> 1
    return place, last


def _read_hashes(proof: Sequence[str]) -> list[bytes]:
    try:
        found = [bytes.fromhex(step) for step in proof]
    except ValueError:
        raise Untrusted("the proof is malformed", code="trust.malformed") from None
    # A shorter "hash" would let two different trees share the bytes that are hashed.
    if any(len(node) != _HASH_BYTES for node in found):
        raise Untrusted("the proof is malformed", code="trust.malformed")
    return found


def _hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _count_trailing_ones(size: int) -> int:
    """How many one bits `size` ends in."""
    return (~size & size + 1).bit_length() - 1


def _find_split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1
