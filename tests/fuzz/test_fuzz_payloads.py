"""Sealed streams, wrapped keys, key files and model files against hostile bytes."""

import functools
import io
import shutil
from typing import Any

import pytest

from security.errors import BadKey, CannotDecrypt, Untrusted
from security.keys import keyfiles
from security.keys.pairs import Recipient, Signer
from security.policy.documents import SizeLimits
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import open_bundle
from security.release.load import load_onnx, load_skops
from security.release.payload_encryption import SEALED, make_context, open_file, seal_file
from security.release.provenance import SealedFile
from security.release.signing import verify_release

NAMES = ["stream", "bundle", "wrapped key", "signer's PEM", "recipient's PEM", "ONNX", "skops"]
LIMITS = SizeLimits(model_bytes=2**20, expanded_bytes=2**20, entries=100)
KEY, BUNDLE = bytes(range(32)), "ab" * 32


def pem_of(*keys: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return b"".join(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in keys
    )


def model_files() -> tuple[bytes, bytes]:
    """A small pipeline as ONNX and as skops."""
    import numpy as np
    import skops.io
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(7).normal(size=(20, 2)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    held = io.BytesIO()
    skops.io.dump(model, held)
    return to_onnx(model, rows[:1]).SerializeToString(), held.getvalue()


@functools.cache
def targets(fuzz: Any) -> tuple[Any, ...]:
    place = fuzz.folder()
    bound_to = make_context(BUNDLE, index=0, count=1, name="m")
    (place / "payload").mkdir()
    (place / "plain").write_bytes(b"a model " * 5000)
    plain = seal_file(place / "plain", place / "payload", name="m", key=KEY, bound_to=bound_to)
    sealed_path = place / "payload" / f"m{SEALED}"
    sealed = sealed_path.read_bytes()

    def read_stream(data: bytes) -> None:
        """The signed length is made to fit, so that the cipher sees every input."""
        sealed_path.write_bytes(data)
        file = SealedFile("m", plain.size, plain.sha256, len(data), "")
        (place / "m").unlink(missing_ok=True)
        open_file(place / "payload", place, file=file, key=KEY, bound_to=bound_to)

    release = place / "release"
    shutil.copytree(fuzz.GOLDEN / "release", release)
    policy = TrustPolicy.load(fuzz.GOLDEN, root=load_root(fuzz.GOLDEN / "root.json"))
    stated = verify_release(release, policy=policy).release
    stranger = Recipient.generate()
    model_path = release / "payload" / "model.onnx.sealed"

    def read_bundle(data: bytes) -> object:
        """No key opens the golden release here: whatever it holds, the refusal is one of two."""
        model_path.write_bytes(data)
        into = place / "open"
        try:
            return open_bundle(release, stated, recipient=stranger, into=into)
        except CannotDecrypt:
            if data == golden:
                return None
            raise
        finally:
            if into.exists():
                raise RuntimeError("something was published")

    golden = model_path.read_bytes()
    recipient = Recipient.generate()
    wrapped = recipient.public.wrap(KEY, info=b"a bundle")
    signer = Signer.generate("trainer")
    signing, opening = (pem_of(*one.private_halves().values()) for one in (signer, recipient))

    def text(data: bytes) -> str:
        return data.decode("utf-8", "replace")

    onnx, skops_file = model_files()
    onnx_path, skops_path = place / "model.onnx", place / "model.skops"

    def read_onnx(data: bytes) -> object:
        onnx_path.write_bytes(data)
        return load_onnx(onnx_path, limits=LIMITS)

    def read_skops(data: bytes) -> object:
        skops_path.write_bytes(data)
        return load_skops(skops_path, trusted=(), limits=LIMITS)

    def target(name: str, read: Any, inputs: int, specimen: bytes, *refuses: Any) -> Any:
        return fuzz.Target(name, read, (specimen,), refuses, inputs)

    return (
        target("stream", read_stream, 20_000, sealed, CannotDecrypt, Untrusted),
        target("bundle", read_bundle, 3_000, golden, CannotDecrypt, Untrusted),
        target(
            "wrapped key",
            lambda data: recipient.unwrap(data, info=b"a bundle"),
            5_000,
            wrapped,
            CannotDecrypt,
        ),
        target(
            "signer's PEM",
            lambda data: keyfiles.parse_signer(text(data), "trainer", where="here"),
            10_000,
            signing,
            BadKey,
        ),
        target(
            "recipient's PEM",
            lambda data: keyfiles.parse_recipient(text(data), where="here"),
            10_000,
            opening,
            BadKey,
        ),
        target("ONNX", read_onnx, 5_000, onnx, Untrusted),
        target("skops", read_skops, 2_000, skops_file, Untrusted),
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("ONNX", "skops")])
def test_hostile_payloads_are_refused_in_the_documented_way(name: str, fuzz: Any) -> None:
    fuzz.short(next(target for target in targets(fuzz) if target.name == name), 60)


@pytest.mark.parametrize("name", ["ONNX", "skops"])
def test_hostile_models_neither_crash_nor_outgrow_their_process(name: str, fuzz: Any) -> None:
    """In a child: their parsers are native code."""
    assert fuzz.child(__file__, name, 100)["inputs"] == 100


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_hostile_payloads(name: str, fuzz: Any) -> None:
    share = next(target.inputs for target in targets(fuzz) if target.name == name)
    print(fuzz.child(__file__, name, share * fuzz.long_inputs // 1_000_000))


def test_every_target_has_a_test(fuzz: Any) -> None:
    assert [target.name for target in targets(fuzz)] == NAMES
