"""Artifacts that the first release signed: every later one must still read them."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from security.audit.log import Log, split_segment, verify_checkpoint
from security.keys.pairs import Recipient
from security.policy.floor import Floor
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import open_bundle
from security.release.index import verify_index
from security.release.signing import verify_release

GOLDEN = Path(__file__).parents[1] / "golden-v1"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return tmp_path / "golden"


@pytest.fixture
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
    return found


def policy_of(golden: Path) -> TrustPolicy:
    return TrustPolicy.load(golden, root=load_root(golden / "root.json"))


def test_a_release_of_the_first_version_still_verifies_and_opens(
    golden: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    policy = policy_of(golden)
    assert policy.root.key_id == expected["root_key_id"]
    verified = verify_release(golden / "release", policy=policy, name="delays", version=1)
    assert verified.digest == expected["release_digest"]
    seeds = {
        name: bytes.fromhex(seed) for name, seed in expected["throwaway_recipient_seeds"].items()
    }
    recipient = Recipient(
        MLKEM768PrivateKey.from_seed_bytes(seeds["mlkem768"]),
        X25519PrivateKey.from_private_bytes(seeds["x25519"]),
    )
    assert recipient.public.recipient_id == expected["recipient_id"]
    into = open_bundle(
        golden / "release", verified.release, recipient=recipient, into=tmp_path / "open"
    )
    assert (into / "model.onnx").read_bytes() == b"golden model\n" * 2000
    assert (into / "reference.json").read_bytes() == b""


def test_an_index_and_timestamp_of_the_first_version_still_verify(
    golden: Path, expected: dict[str, Any]
) -> None:
    current = verify_index(
        (golden / "index.dsse.json").read_bytes(),
        environment="production",
        policy=policy_of(golden),
        floor=Floor("production"),
        now=datetime(2013, 7, 1, 12, tzinfo=UTC),
        timestamp=(golden / "timestamp.dsse.json").read_bytes(),
    )
    assert current.digest == expected["index_digest"]
    assert current.index.release.digest == expected["release_digest"]


def test_an_audit_log_of_the_first_version_still_matches_its_checkpoint(
    golden: Path, expected: dict[str, Any]
) -> None:
    log = Log(tuple(split_segment((golden / "audit" / "log.jsonl").read_bytes())))
    known = verify_checkpoint(
        (golden / "checkpoint.dsse.json").read_bytes(), policy=policy_of(golden)
    )
    assert known.root == expected["audit_root"]
    log.check_grown_from(known.size, known.root)
