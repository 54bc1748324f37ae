"""MLflow's scoring protocol, `/invocations`: dataframes or tensors as JSON.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.errors import ContractBroken
from flows.service.http.inference import matrix_records
from flows.service.models.rows import ModelSignature, Rows, check_row_count, take_rows

FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")


def parse(document: Mapping[str, Any], signature: ModelSignature, *, max_rows: int) -> Rows:
    """The rows of an invocation. Raises: ContractBroken."""
    if len(document) != 1:
        raise _unknown_format()
    (form, content), *_ = document.items()
    if form == "dataframe_records":
        records = content
    elif form == "dataframe_split":
        records = _split_records(content, max_rows)
    elif form in FORMATS:
        records = _tensor_records(content, signature, max_rows)
    else:
        raise _unknown_format()
    return take_rows(records, signature, max_rows=max_rows)


def render(scores: Sequence[float], *, release: str, id: str) -> dict[str, Any]:
    """The answer to an invocation; MLflow's clients read `predictions`."""
    return {"predictions": scores, "release": release, "request_id": id}


def _split_records(content: object, max_rows: int) -> list[dict[str, Any]]:
    if not isinstance(content, dict) or not {"columns", "data"} <= content.keys() <= {
        "columns", "data", "index"
    }:  # fmt: skip
        raise ContractBroken(
            "dataframe_split is not an object of columns and data",
            rule="dataframe_split",
            remedy='write {"columns": [...], "data": [[...], ...]}',
        )
    columns, data = content["columns"], content["data"]
    if not _is_names(columns) or not isinstance(data, list):
        raise ContractBroken("columns are not distinct names", rule="dataframe_split")
    check_row_count(len(data), max_rows)
    if any(not isinstance(row, list) or len(row) != len(columns) for row in data):
        raise ContractBroken("a row of data does not fit the columns", rule="shape")
    return [dict(zip(columns, row, strict=True)) for row in data]


def _tensor_records(content: object, signature: ModelSignature, max_rows: int) -> object:
    """Columns by name, records, or a matrix in the release's feature order."""
    if isinstance(content, dict):
        return _column_records(content, max_rows)
    if not isinstance(content, list) or not content or not isinstance(content[0], list):
        return content
    check_row_count(len(content), max_rows)
    return matrix_records(content, signature)


def _column_records(columns: Mapping[str, object], max_rows: int) -> list[dict[str, Any]]:
    values = [c if isinstance(c, list) else [c] for c in columns.values()]
    rows = max(map(len, values), default=0)
    if any(len(column) != rows for column in values):
        raise ContractBroken("the columns do not all have the same length", rule="shape")
    check_row_count(rows, max_rows)
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _is_names(columns: object) -> bool:
    return (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and len(set(columns)) == len(columns)
    )


def _unknown_format() -> ContractBroken:
    return ContractBroken(
        f"the body does not hold exactly one of {', '.join(FORMATS)}",
        rule="invocation",
        remedy='write {"dataframe_records": [{"feature": value, ...}, ...]}',
    )
