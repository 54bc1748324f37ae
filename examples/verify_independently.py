"""Verify a sealed release with none of Headrace's code: `verify_independently.py FOLDER ROOT`.

Written from docs/formats alone, with the standard library and `cryptography`, to show that the
formats say enough. It decrypts nothing. FOLDER carries its policy, or give it as a third argument.
It judges what decides trust; the shape of fields that decide nothing it leaves to the signer.
"""

import base64
import hashlib
import json
import operator
import os
import re
import stat
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

Json = dict[str, Any]
Pair = tuple[bytes, bytes]

INTOTO = "application/vnd.in-toto+json"
TRUST = "application/vnd.headrace.trust.v1+json"
RULES = "application/vnd.headrace.rules.v1+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
EVIDENCE = "https://in-toto.io/attestation/test-result/v0.1"
RELEASE = "https://headrace.dev/model-release/v1"
SUITES = {"ed25519+ml-dsa-65", "x-wing+hkdf-sha256+aes-256-gcm+cobblestone-256"}
FILES = {"release.dsse.json", "provenance.dsse.json", "gates.dsse.json", "card.md"}
FILES |= {"recipients.json", "payload"}
POLICY = {"trust.dsse.json", "rules.dsse.json"}
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
NAME = r"(?!(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$))[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?"
LARGEST, DEEPEST, MEBIBYTE = 2**53 - 1, 32, 2**20
P = 2**255 - 19
Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7


class Refused(Exception):
    """The release is not to be trusted, and why."""


def require(holds: bool, problem: str) -> None:
    """Go on only if `holds`."""
    if not holds:
        raise Refused(problem)


# canonical-json.md


def refuse_number(_text: str) -> NoReturn:
    """Refuse fractions, exponents, NaN and infinities."""
    raise Refused("a number is not whole")


def whole(digits: str) -> int:
    """An integer that every parser reads alike."""
    require(len(digits) <= 17 and digits != "-0" and abs(int(digits)) <= LARGEST, "a number")
    return int(digits)


def unique(pairs: list[tuple[str, Any]]) -> Json:
    """An object whose keys stand once."""
    require(len(dict(pairs)) == len(pairs), "a key stands twice")
    return dict(pairs)


def canonical(value: Any, depth: int = 0) -> bytes:
    """RFC 8785 without fractions: keys by UTF-16 code units, no space."""
    require(depth <= DEEPEST, "nested too deep")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        parts = (canonical(key) + b":" + canonical(value[key], depth + 1) for key in keys)
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(canonical(item, depth + 1) for item in value) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def parsed(data: bytes, *, strict: bool) -> Json:
    """One JSON object; a signed one (`strict`) is its own canonical form."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=unique,
            parse_int=whole,
            parse_float=refuse_number,
            parse_constant=refuse_number,
        )
        again = canonical(value)
    except (ValueError, RecursionError) as error:
        raise Refused("not JSON") from error
    require(isinstance(value, dict) and (again == data or not strict), "not canonical JSON")
    return dict(value)


def unbase64(text: Any) -> bytes:
    """Standard base64 in its one form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise Refused("not base64") from error
    require(base64.b64encode(data).decode() == text, "not canonical base64")
    return data


# keys.md, policy.md, envelope.md


def pair_of(record: Any) -> Pair:
    """An Ed25519 and an ML-DSA-65 key that may be enrolled."""
    require(isinstance(record, dict) and set(record) == {"ed25519", "mldsa65"}, "not a pair")
    pair = unbase64(record["ed25519"]), unbase64(record["mldsa65"])
    require((len(pair[0]), len(pair[1])) == (32, 1952), "a key has the wrong length")
    y = int.from_bytes(pair[0], "little") & (2**255 - 1)
    require(y < P and y not in {0, 1, P - 1, Y8, P - Y8}, "an Ed25519 key of small order")
    return pair


def key_id(pair: Pair) -> str:
    """A pair's name."""
    return hashlib.sha256(b"headrace.dev/pair/v1\0" + pair[0] + pair[1]).hexdigest()


def has_signed(pair: Pair, message: bytes, signatures: list[Json]) -> bool:
    """Both halves of this one pair, under no other pair's name."""
    own = [unbase64(one["sig"]) for one in signatures if one.get("keyid") in (None, key_id(pair))]
    ed25519 = Ed25519PublicKey.from_public_bytes(pair[0])
    mldsa65 = MLDSA65PublicKey.from_public_bytes(pair[1])
    classical = any(len(sig) == 64 and holds(ed25519, sig, message) for sig in own)
    return classical and any(len(sig) == 3309 and holds(mldsa65, sig, message) for sig in own)


def holds(key: Ed25519PublicKey | MLDSA65PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether one signature is good."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def payload_of(
    envelope: bytes, kind: str, signers: Callable[[str], list[Pair]], need: int
) -> bytes:
    """The payload of an envelope that `need` of the pairs for its digest have signed."""
    require(len(envelope) <= 4 * MEBIBYTE, "an envelope is too large")
    fields = parsed(envelope, strict=False)
    require(set(fields) == {"payload", "payloadType", "signatures"}, "not an envelope")
    require(fields["payloadType"] == kind, f"not a {kind}")
    payload, signatures = unbase64(fields["payload"]), fields["signatures"]
    require(isinstance(signatures, list) and 1 <= len(signatures) <= 16, "1 to 16 signatures")
    for one in signatures:
        require(isinstance(one, dict) and {"sig"} <= set(one) <= {"sig", "keyid"}, "a signature")
        require(isinstance(one.get("keyid"), str | None), "a key id")
        unbase64(one["sig"])
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    pairs = set(signers(hashlib.sha256(payload).hexdigest()))
    signed = sum(has_signed(pair, message, signatures) for pair in pairs)
    require(signed >= max(need, 1), f"{signed} of {need} signing pairs have signed")
    return payload


def read_trust(envelope: bytes, root: Pair) -> Json:
    """Who may sign what, from the pinned root."""
    trust = parsed(payload_of(envelope, TRUST, lambda _digest: [root], 1), strict=True)
    require(set(trust["suites"]) >= SUITES, "the policy does not allow what is used")
    named = pair_of(trust["root"]) if "root" in trust else root
    pairs = [root] if named == root else [root, named]
    for holders in trust["roles"].values():
        pairs += [pair_of(record) for record in holders["keys"]]
        require(1 <= holders["threshold"] <= len(holders["keys"]), "an unreachable threshold")
    pairs += [pair_of(one["key"]) for one in trust["revoked"]]
    halves = [half for pair in pairs for half in pair]
    require(len(set(halves)) == len(halves), "a key is enrolled twice")
    return trust


def signed_by(trust: Json, role: str, envelope: bytes, kind: str) -> bytes:
    """The payload of an envelope, if enough holders of `role` have signed it."""
    require(role in trust["roles"], f"no {role} is enrolled")
    holders = trust["roles"][role]

    def signers(digest: str) -> list[Pair]:
        kept = [
            one["key"]
            for one in trust["revoked"]
            if one.get("role") == role and digest in one.get("kept", [])
        ]
        return [pair_of(record) for record in [*holders["keys"], *kept]]

    return payload_of(envelope, kind, signers, holders["threshold"])


# statements.md


def statement(payload: bytes, kind: str) -> tuple[list[Json], Json]:
    """An in-toto statement's subjects and predicate."""
    fields = parsed(payload, strict=True)
    require(set(fields) == {"_type", "subject", "predicateType", "predicate"}, "not a statement")
    require((fields["_type"], fields["predicateType"]) == (STATEMENT, kind), f"not a {kind}")
    require(isinstance(fields["predicate"], dict), "the predicate is not an object")
    return fields["subject"], fields["predicate"]


def subjects_of(bundle: Json) -> list[Json]:
    """The subjects that a bundle's files demand, and that its files are named once, plainly."""
    files = bundle["files"]
    names = [file["name"] for file in files]
    require(1 <= len(names) == len(set(names)) <= 64, "a bundle's files")
    require(all(re.fullmatch(NAME, name) for name in names), "a file's name")
    require(bundle["suite"] in SUITES, "an unknown suite")
    subjects = [{"name": file["name"], "digest": {"sha256": file["sha256"]}} for file in files]
    return sorted(subjects, key=lambda subject: str(subject["name"]))


def provenance_of(build: Json, bundle: Json) -> Json:
    """The predicate that these facts demand."""
    given = {key: build[key] for key in ("pipeline", "model", "hyperparameters")}
    dependencies: list[Json] = [
        {"name": "code", "digest": {"gitCommit": build["codeCommit"]}},
        {"name": "lock", "digest": {"sha256": build["lockSha256"]}},
    ]
    for name, pin in sorted(build["data"].items()):
        require(bool(re.fullmatch("[0-9a-f]{64}", pin["commit"])), "a pin is not a full commit id")
        uri = f"lakefs://{pin['repository']}/{pin['commit']}/"
        digest = {"lakefsCommit": pin["commit"]}
        dependencies.append({"name": f"data/{name}", "uri": uri, "digest": digest})
    for name, manifest in sorted(build.get("dataSha256", {}).items()):
        dependencies.append({"name": f"dataset/{name}", "digest": {"sha256": manifest}})
    sealed = [
        {"name": f"{file['name']}.sealed", "digest": {"sha256": file["sealedSha256"]}}
        for file in bundle["files"]
    ]
    times = {"startedOn": build["started"], "finishedOn": build["finished"]}
    return {
        "buildDefinition": {
            "buildType": "https://headrace.dev/train/v1",
            "externalParameters": given,
            "internalParameters": {"build": build, "bundle": bundle},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": "https://headrace.dev/trainer/v1"},
            "metadata": {"invocationId": build["runId"], **times},
            "byproducts": sealed,
        },
    }


def number(text: Any) -> Decimal:
    """Decimal text."""
    pattern = r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,39})?"
    require(isinstance(text, str) and bool(re.fullmatch(pattern, text)), "not decimal text")
    return Decimal(text)


def passes(result: Json) -> bool:
    """Whether a value meets the threshold beside it."""
    compare = COMPARE[result["comparator"]]
    return bool(compare(number(result["value"]), number(result["threshold"])))


def evidence_of(gates: Json) -> Json:
    """The predicate that these results demand."""
    verdicts = {result["metric"]: passes(result) for result in gates["results"]}
    require(len(verdicts) == len(gates["results"]), "a metric stands twice")
    passed = bool(verdicts) and all(verdicts.values())
    return {
        "result": "PASSED" if passed else "FAILED",
        "configuration": [{"name": "rules", "digest": {"sha256": gates["policySha256"]}}],
        "passedTests": [metric for metric, good in verdicts.items() if good],
        "warnedTests": [],
        "failedTests": [metric for metric, good in verdicts.items() if not good],
        "headrace_gates": gates,
    }


def check_thresholds(demanded: list[Json], results: list[Json]) -> None:
    """Every gate of the verifier's own policy passes, judged again."""
    require(bool(demanded) and all(passes(result) for result in results), "a gate did not pass")
    by_metric = {result["metric"]: result for result in results}
    for rule in demanded:
        result = by_metric.get(rule["metric"], {"comparator": None})
        require(result["comparator"] == rule["comparator"], f"no evidence for {rule['metric']}")
        bound, compare = number(rule["bound"]), COMPARE[rule["comparator"]]
        no_weaker = COMPARE[rule["comparator"][0] + "="]
        require(no_weaker(number(result["threshold"]), bound), "a threshold is weaker")
        require(compare(number(result["value"]), bound), f"{rule['metric']} did not pass")


# The folder


def read(path: Path, limit: int) -> bytes:
    """A regular file with one name, opened without following links."""
    with open_regular(path) as file:
        data: bytes = file.read(limit + 1)
    require(len(data) <= limit, f"{path.name} is too large")
    return data


def open_regular(path: Path) -> Any:
    """The file, if it is neither a link nor a device."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Refused(f"{path.name} cannot be opened") from error
    file, found = os.fdopen(handle, "rb"), os.fstat(handle)
    require(stat.S_ISREG(found.st_mode) and found.st_nlink == 1, f"{path.name} is not a file")
    return file


def check_payload(folder: Path, bundle: Json, limit: int) -> None:
    """Exactly the named files, each with its length and digest, and stanzas of this bundle."""
    require(not folder.joinpath("payload").is_symlink(), "payload is a link")
    names = {entry.name for entry in (folder / "payload").iterdir()}
    require(names == {f"{file['name']}.sealed" for file in bundle["files"]}, "payload's files")
    require(sum(file["sealedSize"] for file in bundle["files"]) <= limit, "too large")
    for file in bundle["files"]:
        with open_regular(folder / "payload" / f"{file['name']}.sealed") as sealed:
            require(os.fstat(sealed.fileno()).st_size == file["sealedSize"], "a sealed length")
            digest = hashlib.file_digest(sealed, "sha256").hexdigest()
        require(digest == file["sealedSha256"], f"{file['name']} has another digest")
    check_stanzas(parsed(read(folder / "recipients.json", MEBIBYTE // 4), strict=False), bundle)


def check_stanzas(stanzas: Json, bundle: Json) -> None:
    """The wrapped keys are of this bundle, and undamaged as far as one can see without a key."""
    rest = {key: value for key, value in stanzas.items() if key != "sha256"}
    require(set(rest) == {"bundleId", "suite", "recipients"}, "recipients.json")
    digest = stanzas.get("sha256", hashlib.sha256(canonical(rest)).hexdigest())
    require(digest == hashlib.sha256(canonical(rest)).hexdigest(), "recipients.json is damaged")
    of_bundle = (bundle["bundleId"], bundle["suite"])
    require((rest["bundleId"], rest["suite"]) == of_bundle, "stanzas of another bundle")
    listed = [stanza["id"] for stanza in rest["recipients"]]
    require(1 <= len(listed) == len(set(listed)) <= 64, "1 to 64 recipients")
    for stanza in rest["recipients"]:
        unbase64(stanza["wrapped"])


def verify(folder: Path, root_file: Path, policy: Path | None = None) -> str:
    """The release's digest, if the nine steps of statements.md hold.

    Raises: Refused.
    """
    try:
        return checked(folder, root_file, policy or folder)
    except (KeyError, TypeError, AttributeError, OSError) as error:
        raise Refused(f"a field or a file is missing, or of another kind: {error}") from error


def checked(folder: Path, root_file: Path, policy: Path) -> str:
    """The steps themselves, numbered as in statements.md."""
    root = pair_of(parsed(read(root_file, 16 * 1024), strict=False))
    trust = read_trust(read(policy / "trust.dsse.json", 4 * MEBIBYTE), root)
    signed = signed_by(trust, "policy", read(policy / "rules.dsse.json", 4 * MEBIBYTE), RULES)
    rules = parsed(signed, strict=True)

    def verified(name: str, role: str) -> tuple[bytes, str]:
        envelope = read(folder / f"{name}.dsse.json", 4 * MEBIBYTE)
        payload = signed_by(trust, role, envelope, INTOTO)
        return payload, hashlib.sha256(payload).hexdigest()

    # 1. Files.
    names = {entry.name for entry in folder.iterdir()}
    require(FILES <= names <= FILES | POLICY, "the files are not those of a release")
    # 2. Release. 3. Identity: its model's own.
    payload, digest = verified("release", "releaser")
    subjects, release = statement(payload, RELEASE)
    build, bundle, model = release["build"], release["bundle"], release["model"]
    require(subjects == subjects_of(bundle) and build["model"] == model, "subjects or model")
    require(build["codeClean"] or not rules.get("requireCleanCode"), "from uncommitted code")
    # 4. Provenance. 5. Build.
    payload, named = verified("provenance", "trainer")
    require(named == release["provenanceSha256"], "another provenance")
    told = provenance_of(build, bundle)
    require(statement(payload, PROVENANCE) == (subjects, told), "the provenance disagrees")
    # 6. Gates.
    payload, named = verified("gates", "gatekeeper")
    require(named == release["evidenceSha256"], "another evidence")
    about, evidence = statement(payload, EVIDENCE)
    gates = evidence["headrace_gates"]
    require(about == subjects and evidence == evidence_of(gates), "the evidence disagrees")
    stated = (model, release["policySha256"], release["gates"])
    require((gates["model"], gates["policySha256"], gates["results"]) == stated, "other gates")
    origin = hashlib.sha256(canonical(build)).hexdigest()
    require(gates.get("buildSha256", origin) == origin, "evidence about another origin")
    # 7. Thresholds.
    check_thresholds(rules["gates"].get(model, []), gates["results"])
    # 8. Card. 9. Payload.
    card = hashlib.sha256(read(folder / "card.md", MEBIBYTE)).hexdigest()
    require(card == release["cardSha256"], "the card is not the signed one")
    check_payload(folder, bundle, rules["limits"]["sealedBytes"])
    return digest


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python verify_independently.py FOLDER ROOT [POLICY_FOLDER]")
    try:
        print("verified: release", verify(*map(Path, sys.argv[1:])))
    except Refused as refusal:
        sys.exit(f"refused: {refusal}")
