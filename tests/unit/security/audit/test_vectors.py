"""The committed log of docs/formats/audit.md, read by this code and by the page's own words."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from security.audit import merkle
from security.audit.log import Log, Peaks, split_segment, verify_checkpoint
from security.audit.proof import verify_proof
from security.errors import Untrusted
from security.formats.strict_json import from_bytes
from security.policy.trust_policy import TrustPolicy, load_root

VECTOR = Path(__file__).parents[1] / "vectors" / "audit"


@pytest.fixture
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTOR / "expected.json").read_bytes())
    return found


@pytest.fixture
def lines() -> list[bytes]:
    return [
        line for path in sorted(VECTOR.glob("*.jsonl")) for line in split_segment(path.read_bytes())
    ]


def in_the_words_of_the_page(lines: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, with hashlib and nothing of ours."""
    if not lines:
        return sha256(b"").digest()
    if len(lines) == 1:
        return sha256(b"\x00" + lines[0]).digest()
    split = 1
    while split * 2 < len(lines):
        split *= 2
    left, right = lines[:split], lines[split:]
    return sha256(
        b"\x01" + in_the_words_of_the_page(left) + in_the_words_of_the_page(right)
    ).digest()


def test_every_root_is_the_one_written_down(lines: list[bytes], expected: dict[str, Any]) -> None:
    log = Log(tuple(lines))
    assert len(log.entries) == expected["size"]
    for size, root in expected["roots"].items():
        assert log.root(int(size)) == root
        assert in_the_words_of_the_page(lines[: int(size)]).hex() == root


def test_the_head_and_the_checkpoint_are_of_this_log(
    lines: list[bytes], expected: dict[str, Any]
) -> None:
    head = from_bytes(Peaks, (VECTOR / "head.json").read_bytes())
    head.check_tail(lines[64:])
    assert head.tree.root == expected["roots"]["70"]
    proof = json.loads((VECTOR / "proof.json").read_bytes())
    root = load_root(VECTOR / "root.json")
    policy = TrustPolicy.parse(proof["trust"].encode(), proof["rules"].encode(), root=root)
    known = verify_checkpoint((VECTOR / "checkpoint.dsse.json").read_bytes(), policy=policy)
    assert (known.size, known.root) == (70, expected["roots"]["70"])


def test_proofs_are_the_ones_written_down(lines: list[bytes], expected: dict[str, Any]) -> None:
    log, roots = Log(tuple(lines)), expected["roots"]
    given = expected["inclusion"]
    assert list(log.inclusion_proof(given["number"])) == given["path"]
    merkle.verify_inclusion(
        merkle.hash_leaf(lines[given["number"]]), given["number"], 70, given["path"], roots["70"]
    )
    grown = expected["consistency"]
    assert list(log.consistency_proof(grown["earlier"])) == grown["path"]
    merkle.verify_consistency(65, roots["65"], 70, roots["70"], grown["path"])


def test_the_proof_file_holds_and_names_its_release() -> None:
    data = (VECTOR / "proof.json").read_bytes()
    proven = verify_proof(data, root=load_root(VECTOR / "root.json"))
    assert proven.subject == "models/delays/9"
    assert [entry.kind for entry in proven.entries] == ["release.registered", "refused"]
    assert proven.checkpoint.size == 70


def test_every_flipped_byte_of_what_a_proof_states_is_refused() -> None:
    document = json.loads((VECTOR / "proof.json").read_bytes())
    root = load_root(VECTOR / "root.json")
    line = document["entries"][0]["line"]
    for place in range(0, len(line), 7):
        flipped = line[:place] + chr(ord(line[place]) ^ 1) + line[place + 1 :]
        forged = {**document, "entries": [{**document["entries"][0], "line": flipped}]}
        with pytest.raises(Untrusted):
            verify_proof(json.dumps(forged).encode(), root=root)
