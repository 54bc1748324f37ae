"""Sealing and opening a model beside the speed of light, model-signing and age.

    python bench/seal.py [--mib 1024] [--runs 3] [--peers VENV/bin/python]

The limit is what one thread needs for one SHA-256, one AES-256-GCM and one read of the payload,
measured in the same run: 1/(1/SHA-256 + 1/AES-GCM + 1/read). It has no write and no second digest.
Opening writes too; sealing writes and signs the digests of both sides, plain and sealed, so a
second limit counts those. Each figure is the best run of a fresh child on one CPU; ratios are of
CPU time, which other load on the machine disturbs least.

Peers are not in the lock: python -m venv VENV; VENV/bin/pip install model-signing==1.1.1 pyopenssl
pyrage. The peers' pair is model-signing's signature (ECDSA, no encryption) and age's encryption
(X25519, no signature), one after the other: together they do what one seal does.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MIB = 2**20
MODEL = "delays"
CREATED = "2013-07-01T00:00:00Z"

PEERS = """
import sys, time, json
from pathlib import Path
work, mode = Path(sys.argv[1]), sys.argv[2]
plain = work / "plain"
if mode.startswith("model-signing"):
    from model_signing import hashing, signing, verifying
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding, NoEncryption, PrivateFormat, PublicFormat)
    if mode.endswith("sign"):
        key = ec.generate_private_key(ec.SECP256R1())
        (work / "ec.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (work / "ec.pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        job = lambda: signing.Config().use_elliptic_key_signer(
            private_key=work / "ec.pem").sign(plain, work / "model.sig")
    else:
        job = lambda: verifying.Config().use_elliptic_key_verifier(
            public_key=work / "ec.pub").verify(plain, work / "model.sig")
else:
    import pyrage
    if mode.endswith("encrypt"):
        identity = pyrage.x25519.Identity.generate()
        (work / "age.key").write_text(str(identity))
        job = lambda: pyrage.encrypt_file(
            str(plain / "model.onnx"), str(work / "model.age"), [identity.to_public()])
    else:
        identity = pyrage.x25519.Identity.from_str((work / "age.key").read_text())
        job = lambda: pyrage.decrypt_file(
            str(work / "model.age"), str(work / "model.out"), [identity])
wall, cpu = time.perf_counter(), time.process_time()
job()
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))
"""


def limit_parts(payload: Path) -> dict[str, float]:
    """Nanoseconds of CPU a byte for each part, the best of three passes over the payload."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    size = min(payload.stat().st_size, 256 * MIB)
    buffer, out = bytearray(os.urandom(MIB)), bytearray(MIB + 16)
    space = memoryview(buffer)

    def sha() -> None:
        digest = hashlib.sha256()
        for _ in range(0, size, MIB):
            digest.update(space)

    def gcm() -> None:
        cipher, nonce = AESGCM(bytes(32)), bytes(12)
        for _ in range(0, size, MIB):
            cipher.encrypt_into(nonce, space, None, out)

    def read() -> None:
        with payload.open("rb", buffering=0) as file:
            for _ in range(0, size, MIB):
                file.readinto(buffer)

    def write() -> None:
        with tempfile.NamedTemporaryFile(dir=payload.parent, buffering=0) as file:
            for _ in range(0, size, MIB):
                file.write(space)

    return {
        part.__name__: 1e9 * min(cpu_of(part) for _ in range(3)) / size
        for part in (sha, gcm, read, write)
    }


def cpu_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def prepare(work: Path, mib: int) -> None:
    """Keys, a payload of random bytes, and one whole release to verify and open."""
    from security.policy.gates import GateRule
    from security.policy.key_homes import init_keys, load_signer
    from security.policy.trust_policy import TrustPolicy, load_root
    from security.release.bundle import seal
    from security.release.signing import (
        Measurement,
        ReleaseTerms,
        sign_gates,
        sign_provenance,
        sign_release,
    )

    gates = {MODEL: (GateRule("log_loss", "<=", "0.45"),)}
    init_keys(work / "keys", gates=gates)
    (work / "plain").mkdir()
    with (work / "plain" / "model.onnx").open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    policy = TrustPolicy.load(work / "keys", root=load_root(work / "keys" / "root.json"))
    files = {"model.onnx": work / "plain" / "model.onnx"}
    folder = work / "release"
    bundle = seal(files, recipients=policy.recipients, out=folder)
    sign_provenance(folder, build(), bundle.sealed, signer=load_signer(work / "keys", "trainer"))
    gatekeeper = load_signer(work / "keys", "gatekeeper")
    sign_gates(
        folder,
        Measurement(model=MODEL, files=files, values={"log_loss": 0.4}),
        policy=policy,
        signer=gatekeeper,
    )
    terms = ReleaseTerms(
        version=1, card="# A model\n", created=CREATED, created_by="bench", reason="bench"
    )
    sign_release(folder, terms, policy=policy, signer=load_signer(work / "keys", "releaser"))


def build() -> object:
    from security.release.provenance import Build, DataPin

    return Build(
        run_id="train-1", pipeline="flights", model=MODEL, code_commit="0" * 40, code_clean=True,
        data={"flights": DataPin("flights", "ab" * 32)}, lock_sha256="1" * 64,
        definition_sha256="2" * 64, hyperparameters={}, features_sha256="3" * 64,
        schema_sha256="4" * 64, started=CREATED, finished=CREATED,
    )  # fmt: skip


def child(work: Path, job: str) -> None:
    """One job in this fresh process on one CPU: its time, and its memory before and at peak."""
    from security.policy.key_homes import load_recipient, load_signer
    from security.policy.trust_policy import TrustPolicy, load_root
    from security.release.bundle import seal
    from security.release.opening import verify_and_open
    from security.release.signing import sign_provenance

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    policy = TrustPolicy.load(work / "keys", root=load_root(work / "keys" / "root.json"))
    trainer = load_signer(work / "keys", "trainer")
    serving = load_recipient(work / "keys")
    files = {"model.onnx": work / "plain" / "model.onnx"}
    out = work / f"{job}.out"

    def sign_and_encrypt() -> None:
        bundle = seal(files, recipients=policy.recipients, out=out)
        sign_provenance(out, build(), bundle.sealed, signer=trainer)

    def verify_and_decrypt() -> None:
        verify_and_open(work / "release", policy=policy, recipient=serving, into=out)

    run = {"seal": sign_and_encrypt, "open": verify_and_decrypt}[job]
    before = peak_mib()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    shutil.rmtree(out)
    print(json.dumps({**took, "imported": before, "peak": peak_mib()}))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fixed_cost(work: Path) -> dict[str, float]:
    """CPU milliseconds of sealing and signing 1 KiB: for one recipient, and for each one more."""
    from security.keys.pairs import Recipient
    from security.policy.key_homes import load_signer
    from security.release.bundle import seal
    from security.release.signing import sign_provenance

    (work / "small").write_bytes(b"x" * 1024)
    trainer = load_signer(work / "keys", "trainer")
    everyone = [Recipient.generate().public for _ in range(33)]

    def once(count: int) -> float:
        out = work / "small.out"

        def work_of() -> None:
            bundle = seal({"model.onnx": work / "small"}, recipients=everyone[:count], out=out)
            sign_provenance(out, build(), bundle.sealed, signer=trainer)

        took = 1000 * cpu_of(work_of)
        shutil.rmtree(out)
        return took

    one, many = (statistics.median(once(count) for _ in range(30)) for count in (1, 33))
    return {"fixed": one, "each": (many - one) / 32}


def best(command: list[str], runs: int) -> dict[str, float]:
    found = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    ]
    return {name: min(one[name] for one in found) for name in found[0]}


def show(name: str, took: dict[str, float], size: int, limits: dict[str, float]) -> None:
    per_byte = 1e9 * took["cpu"] / size
    ratios = "".join(f"{ns / per_byte:10.2f}" for ns in limits.values())
    rate = f"{size / took['cpu'] / 1e6:8.0f}{size / took['wall'] / 1e6:8.0f}"
    print(f"{name:44}{rate}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", help="a Python that has model-signing and pyrage")
    parser.add_argument("--folder", type=Path, help="where to work; three payloads must fit")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(Path(given.child[0]), given.child[1])
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        report(Path(work), given.mib, given.runs, given.peers)


def report(work: Path, mib: int, runs: int, peers: str | None) -> None:
    prepare(work, mib)
    size, parts = mib * MIB, limit_parts(work / "plain" / "model.onnx")
    for name, ns in parts.items():
        print(f"{name:6}{1000 / ns:10.0f} MB/s")
    once = parts["sha"] + parts["gcm"] + parts["read"]
    print(f"\n{mib} MiB, one CPU{'':27} MB/cpu-s  MB/s  of limit  of all it must do")
    ours = {}
    for job, title, must in (
        ("seal", "sign + encrypt", once + parts["sha"] + parts["write"]),
        ("open", "verify + decrypt", once + parts["write"]),
    ):
        ours[job] = best([sys.executable, __file__, "--child", str(work), job], runs)
        show(title, ours[job], size, {"limit": once, "must": must})
    if peers:
        beside(work, peers, runs, size, once)
    else:
        print("model-signing and age: give --peers (see the top of this file)")
    for job, took in ours.items():
        above = took["peak"] - took["imported"]
        print(f"{job}: peak memory {took['peak']:.0f} MiB, {above:.0f} above its imports")
    fixed = fixed_cost(work)
    print(f"fixed cost {fixed['fixed']:.1f} ms CPU, and {fixed['each']:.2f} ms a recipient")


def beside(work: Path, peers: str, runs: int, size: int, once: float) -> None:
    for mode in ("model-signing sign", "age encrypt", "model-signing verify", "age decrypt"):
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), peers, "-c", PEERS]
        took = best([*command, str(work), mode], runs)
        show(f"  {mode}", took, size, {"limit": once})


if __name__ == "__main__":
    main()
