"""Signed documents, envelopes, policies, recipients, logs and proofs against hostile bytes."""

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from security.audit import log, merkle
from security.audit import proof as audit_proof
from security.errors import BadKey, SecurityError, Untrusted
from security.files import read_regular
from security.formats import canonical, envelope
from security.formats.strict_json import from_bytes, to_bytes
from security.policy.documents import Rules, Trust
from security.policy.floor import Floor
from security.policy.gates import parse_evidence
from security.policy.trust_policy import TrustPolicy, load_root
from security.release import stanzas
from security.release.index import INDEX_TYPE, Index, Timestamp, verify_index
from security.release.provenance import parse_provenance
from security.release.statement import parse_release

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
NAMES = [
    "canonical JSON", "strict JSON", "envelope", "policy", "root", "release", "provenance",
    "evidence", "trust", "rules", "index", "timestamp", "signed index", "floor", "recipients",
    "checkpoint", "audit entry", "audit segment", "audit proof", "inclusion proof",
    "consistency proof",
]  # fmt: skip


def payload(signed: bytes) -> bytes:
    return envelope.decode64(json.loads(signed)["payload"], "payload")


def as_file(fuzz: Any, read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """A parser that takes a file or its folder, given bytes."""
    place = fuzz.folder() / name

    def reader(data: bytes) -> object:
        place.write_bytes(data)
        return read(place)

    return reader


@functools.cache
def targets(fuzz: Any) -> tuple[Any, ...]:
    golden: Path = fuzz.GOLDEN
    signed = {path.name: path.read_bytes() for path in golden.rglob("*.dsse.json")}
    root = load_root(golden / "root.json")
    trust, rules = signed["trust.dsse.json"], signed["rules.dsse.json"]
    policy = TrustPolicy.parse(trust, rules, root=root)
    release, provenance = signed["release.dsse.json"], signed["provenance.dsse.json"]
    evidence, index = signed["gates.dsse.json"], signed["index.dsse.json"]
    stamp, checkpoint = signed["timestamp.dsse.json"], signed["checkpoint.dsse.json"]
    statements = (payload(release), payload(provenance), payload(evidence))
    entry = log.AuditEntry(
        number=0,
        kind="release.registered",
        at="2013-07-01T00:00:00Z",
        actor="ana",
        subject="delays/1",
        transaction="0" * 64,
        reason="monthly",
    )
    line = log.encode_entry(entry)
    proof = audit_proof.Proof(
        "delays/1",
        (audit_proof.Included(line.decode(), ()),),
        checkpoint.decode(),
        trust.decode(),
        rules.decode(),
    )
    floor = to_bytes(Floor("production", 1, "0" * 64, 1, 1, 1, 1))

    def read_index(data: bytes) -> object:
        return verify_index(
            data, environment="production", policy=policy, floor=Floor("production"), now=NOON
        )

    def read_policy(data: bytes) -> object:
        first, _, second = data.partition(b"\n")
        return TrustPolicy.parse(first, second, root=root)

    def read_trust(data: bytes) -> None:
        from_bytes(Trust, data).check(root)

    def read_proof(data: bytes) -> object:
        """The golden checkpoint is of another log, so the specimen itself is refused."""
        try:
            return audit_proof.verify_proof(data, root=root)
        except Untrusted as error:
            if data == specimen:
                return error
            raise

    specimen = audit_proof.to_text(proof).encode()

    def read_inclusion(data: bytes) -> object:
        given = canonical.parse(data)
        leaf, place, size, path, top = (given.get(key) for key in ("l", "i", "n", "p", "r"))
        if not isinstance(path, list) or not all(isinstance(step, str) for step in path):
            raise Untrusted("not a proof")
        if not isinstance(place, int) or not isinstance(size, int) or not isinstance(top, str):
            raise Untrusted("not a proof")
        if not isinstance(leaf, str):
            raise Untrusted("not a proof")
        return merkle.verify_inclusion(leaf.encode(), place, size, path, top)

    def read_consistency(data: bytes) -> object:
        given = canonical.parse(data)
        first, old, second, new, path = (given.get(key) for key in ("m", "o", "n", "r", "p"))
        if not isinstance(path, list) or not all(isinstance(step, str) for step in path):
            raise Untrusted("not a proof")
        if not all(isinstance(n, int) for n in (first, second)) or not isinstance(old, str):
            raise Untrusted("not a proof")
        return merkle.verify_consistency(first, old, second, str(new), path)

    leaves = [merkle.hash_leaf(b"%d" % number) for number in range(7)]
    inclusion = canonical.encode(
        {
            "l": "x" * 32,
            "i": 0,
            "n": 1,
            "p": [],
            "r": b"x".hex() * 32,
        }
    )
    consistency = canonical.encode(
        {
            "m": 3,
            "o": merkle.root(leaves[:3]).hex(),
            "n": 7,
            "r": merkle.root(leaves).hex(),
            "p": [step.hex() for step in merkle.consistency_proof(3, leaves)],
        }
    )

    def target(name: str, read: Any, inputs: int, *specimens: bytes, also: Any = ()) -> Any:
        return fuzz.Target(name, read, specimens, (Untrusted, *also), inputs)

    return (
        target("canonical JSON", canonical.parse_canonical, 120_000, *statements, payload(rules)),
        target("strict JSON", canonical.parse, 120_000, release, b'{"a":[1,"b",{"c":null}]}'),
        target(
            "envelope",
            lambda data: policy.verify(data, role="releaser", payload_type=INDEX_TYPE),
            20_000,
            index,
        ),
        target("policy", read_policy, 10_000, trust + b"\n" + rules, also=(BadKey,)),
        target(
            "root",
            as_file(fuzz, load_root, "root.json"),
            40_000,
            (golden / "root.json").read_bytes(),
            also=(BadKey,),
        ),
        target("release", parse_release, 60_000, statements[0]),
        target("provenance", parse_provenance, 60_000, statements[1]),
        target("evidence", parse_evidence, 60_000, statements[2]),
        target("trust", read_trust, 30_000, payload(trust), also=(BadKey,)),
        target("rules", lambda data: from_bytes(Rules, data), 50_000, payload(rules)),
        target("index", lambda data: from_bytes(Index, data), 50_000, payload(index)),
        target("timestamp", lambda data: from_bytes(Timestamp, data), 40_000, payload(stamp)),
        target("signed index", read_index, 10_000, index),
        target(
            "floor",
            as_file(fuzz, lambda path: Floor.load(path, environment="production"), "floor.json"),
            30_000,
            floor,
        ),
        target(
            "recipients",
            as_file(fuzz, lambda path: stanzas.read_stanzas(path.parent), stanzas.RECIPIENTS),
            40_000,
            (golden / "release" / "recipients.json").read_bytes(),
        ),
        target(
            "checkpoint",
            lambda data: log.verify_checkpoint(data, policy=policy),
            10_000,
            checkpoint,
        ),
        target("audit entry", lambda data: from_bytes(log.AuditEntry, data), 50_000, line),
        target(
            "audit segment",
            lambda data: log.Log(tuple(log.split_segment(data))).entries,
            40_000,
            line + b"\n",
        ),
        target("audit proof", read_proof, 10_000, specimen, also=(BadKey,)),
        target("inclusion proof", read_inclusion, 40_000, inclusion),
        target("consistency proof", read_consistency, 40_000, consistency),
    )


@pytest.mark.parametrize("name", NAMES)
def test_hostile_documents_are_refused_in_the_documented_way(name: str, fuzz: Any) -> None:
    fuzz.short(next(target for target in targets(fuzz) if target.name == name))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_hundreds_of_thousands_of_hostile_documents(name: str, fuzz: Any) -> None:
    share = next(target.inputs for target in targets(fuzz) if target.name == name)
    print(fuzz.child(__file__, name, share * fuzz.long_inputs // 1_000_000))


def test_every_target_has_a_test(fuzz: Any) -> None:
    assert [target.name for target in targets(fuzz)] == NAMES


def test_every_error_of_the_family_is_a_security_error() -> None:
    assert issubclass(Untrusted, SecurityError)
    assert issubclass(BadKey, SecurityError)
    with pytest.raises(Untrusted):
        read_regular(Path("/nowhere"), max_bytes=1)
