"""Attacks 47 to 52: on loading what was verified."""

import io
import json
import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from security.errors import CannotDecrypt, Untrusted
from security.policy.documents import SizeLimits
from security.release.bundle import open_bundle
from security.release.load import load_onnx, load_skops

LIMITS = SizeLimits()


class Marks:
    """What a malicious pickle does when it is loaded: it leaves a file."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


@pytest.fixture(scope="module")
def models() -> tuple[bytes, bytes]:
    import numpy as np
    import skops.io
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(7).normal(size=(20, 2)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows[:, 0] > 0)
    held = io.BytesIO()
    skops.io.dump(model, held)
    return to_onnx(model, rows[:1]).SerializeToString(), held.getvalue()


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_47_a_pickle_renamed_to_a_model_is_refused_and_never_runs(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps(Marks(), protocol=protocol))
    with pytest.raises(Untrusted, match=r"is a pickle, and nothing here|is not a valid ONNX model"):
        load_onnx(path, limits=LIMITS)
    with pytest.raises(Untrusted, match=r"is a pickle, and nothing here|is not a skops archive"):
        load_skops(path, trusted=(), limits=LIMITS)
    assert not (tmp_path / "pwned").exists()


def with_schema(skops_file: bytes, **changes: Any) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(skops_file)) as old, zipfile.ZipFile(held, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "schema.json":
                data = json.dumps({**json.loads(data), **changes}).encode()
            new.writestr(name, data)
    return held.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"__module__": "os", "__class__": "system"},
        {"__module__": "posix", "__class__": "system", "__loader__": "TypeNode"},
        {"content": {"__class__": "x", "__module__": "evil", "__loader__": "ObjectNode"}},
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_48_types_come_from_the_policy_and_never_from_the_file(
    models: tuple[bytes, bytes], tmp_path: Path, changes: dict[str, Any], listed: bool
) -> None:
    """The file may list its own types as trusted; nobody reads the list."""
    more = {"trusted": ["os.system", "posix.system", "evil.x"]} if listed else {}
    path = tmp_path / "model.skops"
    path.write_bytes(with_schema(models[1], **changes, **more))
    with pytest.raises(Untrusted, match="policy does not trust"):
        load_skops(path, trusted=("sklearn.linear_model.LogisticRegression",), limits=LIMITS)


def test_49_no_scanner_is_asked_and_an_unknown_global_is_still_refused(
    models: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """A name that no list of bad names has: what is not allowed is refused."""
    path = tmp_path / "model.skops"
    path.write_bytes(with_schema(models[1], __module__="harmless_looking", __class__="Thing"))
    with pytest.raises(Untrusted, match="harmless_looking"):
        load_skops(path, trusted=(), limits=LIMITS)
    path.write_bytes(b"junk before " + models[1])
    with pytest.raises(Untrusted, match=r"not a (valid skops file|skops archive)"):
        load_skops(path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_50_onnx_weights_outside_the_file_are_refused(
    models: tuple[bytes, bytes], tmp_path: Path, location: str
) -> None:
    import onnx

    model = onnx.load_model_from_string(models[0])
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    where = tensor.external_data.add()
    where.key, where.value = "location", location
    model.graph.initializer.append(tensor)
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Untrusted, match="the model keeps weights in another file"):
        load_onnx(path, limits=LIMITS)


def test_51_a_payload_swapped_after_verification_is_not_what_is_loaded(target: Any) -> None:
    """A racer replaces the sealed file all the time: either the signed bytes come out, or none."""
    good, stop = target.model.read_bytes(), threading.Event()
    bad = bytearray(good)
    bad[-20] ^= 1

    def race() -> None:
        turn = 0
        while not stop.is_set():
            spare = target.place / "spare"
            spare.write_bytes(bad if turn % 2 else good)
            spare.replace(target.model)
            turn += 1

    racer = threading.Thread(target=race)
    racer.start()
    outcomes = set()
    try:
        for number in range(60):
            into = target.place / "out" / str(number)
            try:
                open_bundle(
                    target.folder, target.stated, recipient=target.keys.recipient, into=into
                )
            except (CannotDecrypt, Untrusted) as error:
                assert not into.exists()
                outcomes.add(type(error).__name__)
            else:
                assert (into / "model.onnx").read_bytes() == bytes(range(256)) * 200
                outcomes.add("opened")
    finally:
        stop.set()
        racer.join()
    assert outcomes <= {"opened", "CannotDecrypt", "Untrusted"}
    assert sorted(p.name for p in (target.place / "out").iterdir() if "partial" in p.name) == []


def test_51_the_private_copy_is_readable_by_its_owner_alone(target: Any) -> None:
    into = target.open()
    assert into.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in into.iterdir()} == {0o600}


def test_52_a_failure_half_way_leaves_nothing(target: Any, monkeypatch: Any) -> None:
    """The disk fills up while the second file is written."""
    from security.release import payload_encryption

    written = 0
    create = payload_encryption.create_private

    def fails_at_the_second(path: Path) -> Any:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")
        return create(path)

    monkeypatch.setattr(payload_encryption, "create_private", fails_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        target.open()
    target.nothing_was_published()
    assert written == 2
    assert os.listdir(target.place / "private") == []  # noqa: PTH208
