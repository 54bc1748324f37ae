"""Restricted loading of models that were verified and opened: ONNX to serve, skops to retrain.

Each file is read once and judged on those bytes before a library parses them; there is no pickle
path at all. Call it on the private copy that `open_bundle` made, never on anything else.
"""

import io
import json
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from security.errors import Untrusted
from security.files import read_regular
from security.formats import canonical
from security.policy.documents import SizeLimits

_OPERATOR_SETS = {"", "ai.onnx", "ai.onnx.ml"}
# skops resolves names in these packages; anything else must be a type that the policy names.
_PACKAGES = {"builtins", "numpy", "scipy", "sklearn"}
_SKOPS_PROTOCOL = 2
_SCHEMA = "schema.json"
_MAX_SCHEMA_DEPTH = 150


def load_onnx(path: Path, *, limits: SizeLimits) -> onnxruntime.InferenceSession:
    """A single-threaded CPU session for the ONNX model in `path`.

    Raises: Untrusted if it is too large, no valid ONNX, or refers to data outside itself.
    """
    data = _read_model(path, limits)
    try:
        model = onnx.load_model_from_string(data)
        _refuse_outside(model)
        onnx.checker.check_model(model)
        return onnxruntime.InferenceSession(
            data, _make_options(), providers=["CPUExecutionProvider"]
        )
    except Untrusted:
        raise
    # The libraries raise a dozen types of their own; whatever it was, the model is not loaded.
    except Exception as error:
        raise Untrusted(
            f"{path.name} is not a valid ONNX model", code="trust.unsafe_model"
        ) from error


def load_skops(path: Path, *, trusted: Collection[str], limits: SizeLimits) -> Any:
    """The scikit-learn object in the skops file `path`.

    `trusted` are type names from the policy, never from the file.
    Raises: Untrusted for a type outside skops' defaults and `trusted`, for another format, and
    for an archive that expands past `limits`.
    """
    # Costs seconds to import, and only retraining and inspection come here.
    import skops.io

    data = _read_model(path, limits)
    try:
        _check_archive(data, frozenset(trusted), limits)
        unknown = set(skops.io.get_untrusted_types(data=data)) - set(trusted)
        if unknown:
            raise Untrusted(
                f"{path.name} holds {min(unknown)}, which the policy does not trust",
                code="trust.unlisted_type",
            )
        return skops.io.loads(data, trusted=sorted(trusted))
    except Untrusted:
        raise
    except Exception as error:
        raise Untrusted(
            f"{path.name} is not a valid skops file", code="trust.unsafe_model"
        ) from error


def _read_model(path: Path, limits: SizeLimits) -> bytes:
    data = read_regular(path, max_bytes=limits.model_bytes)
    if data.startswith(b"\x80"):
        raise Untrusted(
            f"{path.name} is a pickle, and nothing here loads pickles", code="trust.unsafe_model"
        )
    return data


def _make_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return options


def _refuse_outside(model: onnx.ModelProto) -> None:
    domains = {entry.domain for entry in model.opset_import}
    if domains - _OPERATOR_SETS:
        raise Untrusted(
            f"the model uses operators of {min(domains - _OPERATOR_SETS)!r}",
            code="trust.unlisted_type",
        )
    for message in _walk_messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.external_data or message.data_location == onnx.TensorProto.EXTERNAL
        ):
            raise Untrusted("the model keeps weights in another file", code="trust.unsafe_model")


def _walk_messages(message: Any) -> Iterator[Any]:
    """Every protobuf message in `message`, wherever it hides (subgraphs, functions, training)."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if hasattr(value, "__len__") else [value]:
                yield from _walk_messages(child)


def _check_archive(data: bytes, trusted: frozenset[str], limits: SizeLimits) -> None:
    # zipfile finds an archive behind any prefix; a skops file has none.
    if not data.startswith(b"PK\x03\x04"):
        raise Untrusted("the file is not a skops archive", code="trust.unsafe_model")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        _check_sizes(entries, limits)
        _check_schema(archive.read(_SCHEMA), trusted, limits)
        for entry in entries:
            _check_entry(archive, entry)


def _check_sizes(entries: list[zipfile.ZipInfo], limits: SizeLimits) -> None:
    if len(entries) > limits.entries or len({entry.filename for entry in entries}) < len(entries):
        raise Untrusted(
            "the archive has too many entries, or names one twice", code="trust.too_large"
        )
    if sum(entry.file_size for entry in entries) > limits.expanded_bytes:
        raise Untrusted(
            f"the archive expands past {limits.expanded_bytes} bytes", code="trust.too_large"
        )


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    if entry.filename == _SCHEMA:
        return
    if not entry.filename.endswith((".npy", ".bin")):
        raise Untrusted(
            f"the archive holds {entry.filename[:60]!r}, which no model needs",
            code="trust.unsafe_model",
        )
    if entry.filename.endswith(".npy"):
        _check_array(archive, entry)


def _check_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """An array's header must not claim more memory than its bytes fill, nor hold objects."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file)
    claimed = dtype.itemsize
    for length in shape:
        claimed *= length
    if dtype.hasobject or not 0 <= claimed <= entry.file_size:
        raise Untrusted(
            "an array of the archive holds objects, or claims more than its bytes",
            code="trust.unsafe_model",
        )


def _check_schema(schema: bytes, trusted: frozenset[str], limits: SizeLimits) -> None:
    canonical.refuse_large_or_deep(
        schema, max_bytes=limits.model_bytes, max_depth=_MAX_SCHEMA_DEPTH
    )
    tree = json.loads(schema)
    if tree["protocol"] != _SKOPS_PROTOCOL:
        raise Untrusted(
            "the skops file is in another version of the format", code="trust.unsafe_model"
        )
    for node in _walk_nodes(tree):
        _check_node(node, trusted)


def _check_node(node: dict[str, Any], trusted: frozenset[str]) -> None:
    for key in ("__module__", "module_path"):
        module = node.get(key, "builtins")
        if not isinstance(module, str) or (
            module.split(".")[0] not in _PACKAGES
            and f"{module}.{node.get('__class__', node.get('function'))}" not in trusted
        ):
            raise Untrusted(
                f"the skops file refers to {module!r}, which the policy does not trust",
                code="trust.unlisted_type",
            )


def _walk_nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _walk_nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _walk_nodes(child)
