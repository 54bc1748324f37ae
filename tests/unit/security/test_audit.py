import hashlib
import itertools
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from security import canonical, merkle
from security.audit import LOG, AuditLog
from security.errors import BadKey, Untrusted

NOW = "2013-08-01T12:00:00Z"


def filled(folder: Path, count: int) -> AuditLog:
    log = AuditLog(folder)
    for number in range(count):
        assert log.append({"what": "signed", "number": number}) == number
    return log


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % number) for number in range(count)]


def hexes(proof: list[bytes]) -> list[str]:
    return [step.hex() for step in proof]


def test_roots_are_those_of_rfc_6962() -> None:
    # The vectors of Certificate Transparency's reference implementations.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", ""]
    inputs[-1] = "606162636465666768696a6b6c6d6e6f"
    nodes = [merkle.leaf_hash(bytes.fromhex(item)) for item in inputs]
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
                merkle.verify_inclusion(merkle.leaf_hash(b"x"), place, size, proof, root)
            with pytest.raises(Untrusted):
                merkle.verify_inclusion(nodes[place], place, size, [*proof, root], root)


def test_every_consistency_proof_holds_and_no_fork_does() -> None:
    for earlier, size in itertools.combinations_with_replacement(range(1, 18), 2):
        nodes = leaves(size)
        old, new = merkle.root(nodes[:earlier]).hex(), merkle.root(nodes).hex()
        proof = hexes(merkle.consistency_proof(earlier, nodes))
        merkle.verify_consistency(earlier, old, size, new, proof)
        forked = merkle.root([*nodes[: earlier - 1], merkle.leaf_hash(b"x")]).hex()
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, forked, size, new, proof)
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, old, size, forked, proof)
        with pytest.raises(Untrusted):
            merkle.verify_consistency(earlier, old, size, new, [*proof, new])
        if proof:
            with pytest.raises(Untrusted):
                merkle.verify_consistency(earlier, old, size, new, proof[:-1])


def test_the_log_proves_its_entries_and_its_growth(tmp_path: Path) -> None:
    log = filled(tmp_path, 5)
    early = log.root()
    log.append({"what": "promoted"})
    log.append({"what": "rolled back"})
    line = canonical.encode({"what": "promoted"})
    proof = log.inclusion_proof(5)
    merkle.verify_inclusion(merkle.leaf_hash(line), 5, 7, proof, log.root())
    merkle.verify_consistency(5, early, 7, log.root(), log.consistency_proof(5))
    assert log.entries()[6] == {"what": "rolled back"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda lines: lines[:-1], "truncated"),
        (lambda lines: lines[1:], "truncated"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "rewritten"),
        (lambda lines: [*lines[:-1], b'{"what":"nothing"}'], "rewritten"),
        (lambda lines: [b"{}", *lines], "rewritten"),
    ],
)
def test_a_rewritten_past_fails_against_the_stored_checkpoint(
    home: Any, tmp_path: Path, damage: Any, reason: str
) -> None:
    log = filled(tmp_path, 4)
    checkpoint = log.checkpoint(created=NOW, signer=home.signers["timestamp"])
    assert log.check_grown_from(checkpoint, policy=home.policy).size == 4
    lines = (tmp_path / LOG).read_bytes().splitlines()
    (tmp_path / LOG).write_bytes(b"".join(line + b"\n" for line in damage(lines)))
    with pytest.raises(Untrusted, match=reason):
        log.check_grown_from(checkpoint, policy=home.policy)


def test_a_log_that_only_grew_passes(home: Any, tmp_path: Path) -> None:
    log = filled(tmp_path, 4)
    checkpoint = log.checkpoint(created=NOW, signer=home.signers["timestamp"])
    log.append({"what": "more"})
    assert log.check_grown_from(checkpoint, policy=home.policy).size == 4


def test_only_the_timestamp_role_signs_checkpoints(home: Any, tmp_path: Path) -> None:
    with pytest.raises(BadKey):
        filled(tmp_path, 1).checkpoint(created=NOW, signer=home.signers["trainer"])


def test_a_torn_last_line_was_never_acknowledged(tmp_path: Path) -> None:
    log = filled(tmp_path, 2)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"what":"half')
    assert len(log.entries()) == 2
    assert log.append({"what": "next"}) == 2
    assert [entry["what"] for entry in log.entries()] == ["signed", "signed", "next"]


def append_many(folder: Path) -> None:
    log = AuditLog(folder)
    for number in range(20):
        log.append({"number": number})


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=append_many, args=(tmp_path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries = AuditLog(tmp_path).entries()
    assert sorted(entry["number"] for entry in entries) == sorted([*range(20)] * 2)


def test_an_empty_log_has_a_root_and_no_proofs(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert log.root() == hashlib.sha256(b"").hexdigest()
    with pytest.raises(Untrusted, match="no entry 0"):
        log.inclusion_proof(0)
    with pytest.raises(Untrusted, match="truncated"):
        log.consistency_proof(1)
