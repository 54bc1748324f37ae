"""The Open Inference Protocol, version 2 over HTTP: tensors in, tensors out.

A request holds one tensor per column, or the model's own input: one float tensor `features` of
shape [rows, features], in which a category is its number in the metadata's list and null is null.
Source: https://github.com/kserve/open-inference-protocol
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.errors import ContractBroken
from flows.service.models.rows import AT, ModelSignature, Rows, check_row_count, take_rows

MATRIX = "features"
OUTPUT = "score"

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
_KINDS: Mapping[str, tuple[type, ...]] = {"BYTES": (str,), "BOOL": (bool,)}
_INTEGER, _FLOAT = (int,), (int, float)


class Tensor(BaseModel):
    """One input; `data` is flat in row-major order, or nested as `shape` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(max_length=8)]
    datatype: Datatype
    data: list[Any]
    parameters: dict[str, Any] | None = None


class RequestedOutput(BaseModel):
    """An output the caller wants; there is only `score`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["score"]
    parameters: dict[str, Any] | None = None


class InferenceRequest(BaseModel):
    """The body of an infer call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Annotated[list[Tensor], Field(min_length=1)]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


def parse(
    document: Mapping[str, Any], signature: ModelSignature, *, max_rows: int
) -> tuple[Rows, str | None]:
    """The rows of an infer call, and the caller's id. Raises: ContractBroken."""
    try:
        request = InferenceRequest.model_validate(document)
    except ValidationError as error:
        raise _explain_malformed(error) from None
    if [tensor.name for tensor in request.inputs] == [MATRIX]:
        records = matrix_records(_matrix(request.inputs[0], signature, max_rows), signature)
    else:
        records = _column_records(request.inputs, max_rows)
    return take_rows(records, signature, max_rows=max_rows), request.id


def render(
    scores: Sequence[float], *, model: str, version: int, release: str, id: str
) -> dict[str, Any]:
    """The answer to an infer call."""
    return {
        "model_name": model,
        "model_version": str(version),
        "id": id,
        "parameters": {"release": release},
        "outputs": [
            {"name": OUTPUT, "shape": [len(scores)], "datatype": "FP64", "data": scores},
        ],
    }


def describe_model(
    signature: ModelSignature, *, model: str, version: int, digest: str
) -> dict[str, Any]:
    """Inputs and outputs of a release; shapes are [-1] since a request may hold many rows."""
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if name in signature.categories else "FP64",
            "shape": [-1],
        }
        for name in signature.features
    ]
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "onnx_onnxruntime",
        "inputs": inputs,
        "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
        "parameters": {
            "digest": digest,
            "optional_inputs": [signature.key, AT],
            "categories": {name: list(known) for name, known in signature.categories.items()},
        },
    }


def matrix_records(matrix: Sequence[object], signature: ModelSignature) -> list[dict[str, Any]]:
    """Rows in the release's feature order as records; category numbers become their names.

    Raises: ContractBroken.
    """
    width = len(signature.features)
    rows = [row for row in matrix if isinstance(row, list) and len(row) == width]
    if len(rows) != len(matrix):
        raise ContractBroken(
            f"a row does not hold the release's {width} features",
            rule="shape",
            remedy="the model's metadata lists them in order",
        )
    return [
        {
            name: _name_category(row[place], name, signature)
            for place, name in enumerate(signature.features)
        }
        for row in rows
    ]


def _name_category(value: object, name: str, signature: ModelSignature) -> object:
    """A category by its number; text and null, and every other feature, as they are."""
    known = signature.categories.get(name)
    if known is None or value is None or isinstance(value, str):
        return value
    number = value if isinstance(value, int | float) else -1
    if number != int(number) or not 0 <= number < len(known):
        raise ContractBroken(
            f"{name} has no category number {number}",
            rule="dtype",
            column=name,
            remedy="send its number in the metadata's categories, or null",
        )
    return known[int(number)]


def _matrix(tensor: Tensor, signature: ModelSignature, max_rows: int) -> list[list[Any]]:
    width = len(signature.features)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise ContractBroken(
            f"{MATRIX} has shape {list(tensor.shape)}, not [rows, {width}]", rule="shape"
        )
    check_row_count(tensor.shape[0], max_rows)
    flat = _flat(tensor)
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _column_records(tensors: Sequence[Tensor], max_rows: int) -> list[dict[str, Any]]:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise ContractBroken("two inputs have the same name", rule="column_unknown")
    rows = _rows_of(tensors[0])
    if any(_rows_of(tensor) != rows for tensor in tensors):
        raise ContractBroken("the inputs do not all have the same number of rows", rule="shape")
    check_row_count(rows, max_rows)
    columns = [_flat(tensor) for tensor in tensors]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _rows_of(tensor: Tensor) -> int:
    if len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1):
        return tensor.shape[0]
    raise ContractBroken(
        f"{tensor.name[:80]} has shape {list(tensor.shape)}, not [rows] or [rows, 1]",
        rule="shape",
        column=tensor.name[:80],
    )


def _flat(tensor: Tensor) -> list[Any]:
    """The tensor's values, each of its datatype or null, as many as the shape says."""
    flat: list[Any] = tensor.data
    for _ in tensor.shape[1:]:
        if flat and isinstance(flat[0], list):
            flat = [value for part in flat for value in _as_list(part)]
    if len(flat) != prod(tensor.shape):
        raise ContractBroken(
            f"{tensor.name[:80]} holds {len(flat)} values for shape {list(tensor.shape)}",
            rule="shape",
            column=tensor.name[:80],
        )
    kinds = _KINDS.get(tensor.datatype, _FLOAT if tensor.datatype[0] == "F" else _INTEGER)
    for value in flat:
        if value is not None and type(value) not in kinds:
            raise ContractBroken(
                f"{tensor.name[:80]} holds a value that is no {tensor.datatype}",
                rule="dtype",
                column=tensor.name[:80],
            )
    return [float(value) for value in flat] if kinds == (bool,) else flat


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _explain_malformed(error: ValidationError) -> ContractBroken:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"][:4]) or "the body"
    return ContractBroken(
        f"{where}: {first['msg'].lower()}",
        rule="inference_request",
        column=where,
        remedy="the Open Inference Protocol v2 describes the request",
    )
