import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from security.errors import Untrusted
from security.policy.documents import SizeLimits
from security.release.load import load_onnx, load_skops

LIMITS = SizeLimits()
TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


@pytest.fixture(scope="module")
def rows() -> Any:
    return np.random.default_rng(7).normal(size=(80, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pipeline(rows: Any) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 0)


@pytest.fixture
def onnx_path(pipeline: Any, rows: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(pipeline, rows[:1]).SerializeToString())
    return path


@pytest.fixture
def skops_path(pipeline: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.skops"
    skops.io.dump(pipeline, path)
    return path


class Payload:
    """What a malicious pickle does when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("pwned"),)


def rewritten(path: Path, edit: Callable[[dict[str, bytes]], None]) -> None:
    """Rewrite a skops archive after `edit` changed its entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    edit(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def schema_edit(edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        schema = json.loads(entries["schema.json"])
        edit(schema)
        entries["schema.json"] = json.dumps(schema).encode()

    return change


def test_an_honest_onnx_model_scores_as_it_was_trained(
    onnx_path: Path, pipeline: Any, rows: Any
) -> None:
    session = load_onnx(onnx_path, limits=LIMITS)
    labels = session.run(None, {session.get_inputs()[0].name: rows})[0]
    assert (labels == pipeline.predict(rows)).all()
    assert session.get_session_options().intra_op_num_threads == 1


def test_an_honest_skops_model_comes_back(skops_path: Path, pipeline: Any, rows: Any) -> None:
    loaded = load_skops(skops_path, trusted=(), limits=LIMITS)
    assert (loaded.predict_proba(rows) == pipeline.predict_proba(rows)).all()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_renamed_to_a_model_is_refused_and_never_runs(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.bin"
    path.write_bytes(pickle.dumps(Payload(), protocol=protocol))
    with pytest.raises(Untrusted):
        load_onnx(path, limits=LIMITS)
    with pytest.raises(Untrusted):
        load_skops(path, trusted=(), limits=LIMITS)
    assert not (tmp_path / "pwned").exists()


def test_an_archive_behind_a_pickle_is_refused(skops_path: Path) -> None:
    skops_path.write_bytes(b"cposix\nsystem\n" + skops_path.read_bytes())
    with pytest.raises(Untrusted, match="not a skops archive"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_weights_in_another_file_are_refused(onnx_path: Path, location: str) -> None:
    (onnx_path.parent / "weights.bin").write_bytes(bytes(64))
    model = onnx.load(onnx_path)
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    for place in (model.graph.initializer, model.graph.node[0].attribute.add().tensors):
        changed = onnx.ModelProto()
        place.append(tensor)
        changed.CopyFrom(model)
        onnx_path.write_bytes(changed.SerializeToString())
        with pytest.raises(Untrusted, match="another file"):
            load_onnx(onnx_path, limits=LIMITS)
        del place[:]


def test_custom_operators_are_refused(onnx_path: Path) -> None:
    model = onnx.load(onnx_path)
    model.opset_import.add(domain="evil.ops", version=1)
    onnx_path.write_bytes(model.SerializeToString())
    with pytest.raises(Untrusted, match=r"evil\.ops"):
        load_onnx(onnx_path, limits=LIMITS)


@pytest.mark.parametrize("damage", [b"", b"\x08", b"not a model", bytes(1000)])
def test_what_is_no_model_is_untrusted_and_not_a_crash(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(damage)
    with pytest.raises(Untrusted):
        load_onnx(path, limits=LIMITS)
    with pytest.raises(Untrusted):
        load_skops(path, trusted=(), limits=LIMITS)


def test_a_model_above_the_limit_is_refused_unread(onnx_path: Path, skops_path: Path) -> None:
    small = replace(LIMITS, model_bytes=100)
    with pytest.raises(Untrusted, match="larger than 100 bytes"):
        load_onnx(onnx_path, limits=small)
    with pytest.raises(Untrusted, match="larger than 100 bytes"):
        load_skops(skops_path, trusted=(), limits=small)


def test_a_type_is_trusted_by_the_policy_and_never_by_the_file(tmp_path: Path, rows: Any) -> None:
    model = HistGradientBoostingClassifier(max_iter=2).fit(rows, rows[:, 0] > 0)
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    with pytest.raises(Untrusted, match="TreePredictor, which the policy does not trust"):
        load_skops(path, trusted=(), limits=LIMITS)
    loaded = load_skops(path, trusted=[TREES], limits=LIMITS)
    assert (loaded.predict(rows) == model.predict(rows)).all()
    rewritten(path, schema_edit(lambda schema: schema.update(trusted=[TREES])))
    with pytest.raises(Untrusted, match="TreePredictor"):
        load_skops(path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize(
    "node",
    [
        {"__class__": "load", "__module__": "skops.io", "__loader__": "TypeNode"},
        {"__class__": "loads", "__module__": "skops.io._persist", "__loader__": "ObjectNode"},
        {"__class__": "system", "__module__": "os", "__loader__": "TypeNode"},
        {
            "__class__": "function",
            "__module__": "builtins",
            "__loader__": "FunctionNode",
            "content": {"module_path": "joblib", "function": "load"},
        },
    ],
    ids=["skops.load", "skops.loads", "os.system", "joblib.load"],
)
def test_a_nested_loader_or_foreign_module_is_refused(
    skops_path: Path, node: dict[str, Any]
) -> None:
    def plant(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["steps"]["content"].append(node)

    rewritten(skops_path, schema_edit(plant))
    with pytest.raises(Untrusted, match="which the policy does not trust"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize("protocol", [0, 1, 3])
def test_no_other_version_of_the_format_is_accepted(skops_path: Path, protocol: int) -> None:
    rewritten(skops_path, schema_edit(lambda schema: schema.update(protocol=protocol)))
    with pytest.raises(Untrusted, match="another version of the format"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize("name", ["inner.skops", "inner.zip", "x.pkl", "../../evil.py", "x.npz"])
def test_an_archive_in_the_archive_is_refused(skops_path: Path, name: str) -> None:
    rewritten(skops_path, lambda entries: entries.update({name: b"PK\x03\x04"}))
    with pytest.raises(Untrusted, match="which no model needs"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


def test_a_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 50_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(Untrusted, match="expands past 1000000"):
        load_skops(path, trusted=(), limits=replace(LIMITS, expanded_bytes=1_000_000))


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 5_000_000)
    data = path.read_bytes()
    # Both the local and the central header claim 10 bytes.
    path.write_bytes(data.replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10)))
    with pytest.raises(Untrusted):
        load_skops(path, trusted=(), limits=replace(LIMITS, expanded_bytes=1000))


def test_too_many_or_twin_entries_are_refused(skops_path: Path) -> None:
    with pytest.raises(Untrusted, match="too many entries"):
        load_skops(skops_path, trusted=(), limits=replace(LIMITS, entries=1))
    with (
        zipfile.ZipFile(skops_path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("schema.json", "{}")
    with pytest.raises(Untrusted, match="names one twice"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize("shape", [(10**12,), (2**40, 2**40), (-1,)])
def test_an_array_that_claims_more_than_its_bytes_is_refused(
    skops_path: Path, shape: tuple[int, ...]
) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )

    def plant(entries: dict[str, bytes]) -> None:
        entries[next(name for name in entries if name.endswith(".npy"))] = buffer.getvalue()

    rewritten(skops_path, plant)
    with pytest.raises(Untrusted, match="claims more than its bytes"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


def test_an_array_of_objects_is_a_pickle_and_is_refused(
    skops_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload()], dtype=object), allow_pickle=True)

    def plant(entries: dict[str, bytes]) -> None:
        entries[next(name for name in entries if name.endswith(".npy"))] = buffer.getvalue()

    rewritten(skops_path, plant)
    with pytest.raises(Untrusted, match="holds objects"):
        load_skops(skops_path, trusted=(), limits=LIMITS)
    assert not (tmp_path / "pwned").exists()


def test_a_deep_schema_is_refused_and_does_not_crash(skops_path: Path) -> None:
    deep = b'{"protocol":2,"content":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    rewritten(skops_path, lambda entries: entries.update({"schema.json": deep}))
    with pytest.raises(Untrusted, match="nested deeper"):
        load_skops(skops_path, trusted=(), limits=LIMITS)


@pytest.mark.parametrize(
    "load", [load_onnx, lambda p, limits: load_skops(p, trusted=(), limits=limits)]
)
def test_a_link_is_not_loaded(onnx_path: Path, tmp_path: Path, load: Any) -> None:
    link = tmp_path / "link"
    link.symlink_to(onnx_path)
    with pytest.raises(Untrusted, match="is a link"):
        load(link, limits=LIMITS)
