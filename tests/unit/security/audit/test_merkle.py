import hashlib
import itertools

import pytest

from security.audit import merkle
from security.audit.merkle import CompactRange
from security.errors import Untrusted


def leaves(count: int) -> list[bytes]:
    return [merkle.hash_leaf(b"%d" % number) for number in range(count)]


def hexes(proof: list[bytes]) -> list[str]:
    return [step.hex() for step in proof]


def test_roots_are_those_of_rfc_6962() -> None:
    # The vectors of Certificate Transparency's reference implementations.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", ""]
    inputs[-1] = "606162636465666768696a6b6c6d6e6f"
    nodes = [merkle.hash_leaf(bytes.fromhex(item)) for item in inputs]
    assert merkle.root([]).hex() == hashlib.sha256(b"").hexdigest()
    assert merkle.root(nodes[:1]).hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert merkle.root(nodes[:2]).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )
    assert merkle.root(nodes).hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


def test_every_inclusion_proof_holds_and_no_other_leaf_does() -> None:
    for size in range(1, 18):
        nodes = leaves(size)
        root = merkle.root(nodes).hex()
        for place in range(size):
            proof = hexes(merkle.inclusion_proof(place, nodes))
            merkle.verify_inclusion(nodes[place], place, size, proof, root)
            for wrong in (place - 1, place + 1, size):
                with pytest.raises(Untrusted):
                    merkle.verify_inclusion(nodes[place], wrong, size, proof, root)
            with pytest.raises(Untrusted):
                merkle.verify_inclusion(merkle.hash_leaf(b"x"), place, size, proof, root)
            with pytest.raises(Untrusted):
                merkle.verify_inclusion(nodes[place], place, size, [*proof, root], root)


def test_every_consistency_proof_holds_and_no_fork_does() -> None:
    for earlier, size in itertools.combinations_with_replacement(range(1, 18), 2):
        nodes = leaves(size)
        old, new = merkle.root(nodes[:earlier]).hex(), merkle.root(nodes).hex()
        proof = hexes(merkle.consistency_proof(earlier, nodes))
        merkle.verify_consistency(earlier, old, size, new, proof)
        forked = merkle.root([*nodes[: earlier - 1], merkle.hash_leaf(b"x")]).hex()
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, forked, size, new, proof)
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, old, size, forked, proof)
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, old, size, new, [*proof, new])
        if proof:
            with pytest.raises(Untrusted):
                merkle.verify_consistency(earlier, old, size, new, proof[:-1])


def test_the_peaks_alone_lead_to_every_root() -> None:
    grown = CompactRange()
    for size in range(1, 200):
        nodes = leaves(size)
        grown = grown.grow(nodes[-1:])
        assert grown == CompactRange().grow(nodes)
        assert grown.root == merkle.root(nodes).hex()
        assert len(grown.nodes) == size.bit_count()


def test_an_empty_tree_has_the_root_of_rfc_6962() -> None:
    assert CompactRange().root == hashlib.sha256(b"").hexdigest()


def test_peaks_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(Untrusted, match="3 entries has 2 peaks"):
        CompactRange(3, (b"\0" * 32,))
