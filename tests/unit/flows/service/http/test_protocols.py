"""What the two protocols accept, and that both come to the same rows."""

from typing import Any

import orjson
import pytest

from flows.errors import ContractBroken
from flows.service.http import inference, invocations
from flows.service.http.predict import read_json
from flows.service.models.rows import ModelSignature, Rows, take_rows

ROWS = [{"carrier": "AA", "distance_mi": 100.0}, {"carrier": None, "distance_mi": 2.5}]


def column(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def infer(signature: ModelSignature, *inputs: dict[str, Any], **more: Any) -> Rows:
    return inference.parse({"inputs": list(inputs), **more}, signature, max_rows=10)[0]


def invoke(signature: ModelSignature, **document: Any) -> Rows:
    return invocations.parse(document, signature, max_rows=10)


SAME = [
    {"dataframe_records": ROWS},
    {
        "dataframe_split": {
            "index": [0, 1],
            "columns": ["distance_mi", "carrier"],
            "data": [[100.0, "AA"], [2.5, None]],
        }
    },
    {"inputs": {"carrier": ["AA", None], "distance_mi": [100.0, 2.5]}},
    {"inputs": ROWS},
    {"instances": ROWS},
    {"instances": [["AA", 100.0], [None, 2.5]]},
    {"inputs": [[0, 100.0], [None, 2.5]]},
]


@pytest.mark.parametrize("document", SAME)
def test_every_form_of_an_invocation_comes_to_the_same_rows(
    document: dict[str, Any], signature: ModelSignature
) -> None:
    copied = read_json(orjson.dumps(document))
    rows = invocations.parse(copied, signature, max_rows=10)
    assert rows == Rows(ROWS, ["0", "1"], [None, None])


def test_column_tensors_and_the_models_own_matrix_come_to_the_same_rows(
    signature: ModelSignature,
) -> None:
    columns = infer(
        signature,
        column("carrier", "BYTES", ["AA", None]),
        column("distance_mi", "FP64", [100.0, 2.5]),
    )
    matrix = {"name": "features", "datatype": "FP32", "shape": [2, 2]}
    flat = infer(signature, matrix | {"data": [0, 100.0, None, 2.5]})
    nested = infer(signature, matrix | {"data": [[0, 100.0], [None, 2.5]]})
    assert columns == flat == nested == Rows(ROWS, ["0", "1"], [None, None])


def test_boolean_tensors_and_values_count_as_numbers(signature: ModelSignature) -> None:
    rows = infer(
        signature, column("carrier", "BYTES", ["AA"]), column("distance_mi", "BOOL", [True])
    )
    assert rows.features == [{"carrier": "AA", "distance_mi": 1.0}]
    rows = invoke(signature, dataframe_records=[{"carrier": "AA", "distance_mi": False}])
    assert str(rows.features[0]["distance_mi"]) == "0.0"


def test_key_and_time_are_taken_out_of_the_row_and_the_time_is_exact(
    signature: ModelSignature,
) -> None:
    record = ROWS[0] | {"trip": 7, "at": "2013-07-01T00:00:00.000001-04:00"}
    rows = invoke(signature, dataframe_records=[record])
    assert rows == Rows([ROWS[0]], ["7"], [1_372_651_200_000_001])


def test_the_callers_id_comes_back(signature: ModelSignature) -> None:
    inputs = [column("carrier", "BYTES", ["AA"]), column("distance_mi", "INT64", [1])]
    assert inference.parse({"inputs": inputs, "id": "x"}, signature, max_rows=1)[1] == "x"


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"distance_mi": 1.0}, "column_missing"),
    ({"carrier": "AA", "distance_mi": 1.0, "label": 1}, "column_unknown"),
    ({"carrier": "A" * 257, "distance_mi": 1.0}, "max_length"),
    ({"carrier": "AA", "distance_mi": 1.0, "trip": ""}, "dtype"),
    ({"carrier": "AA", "distance_mi": 1.0, "trip": True}, "dtype"),
    ({"carrier": "AA", "distance_mi": 1.0, "trip": "x" * 257}, "dtype"),
    ({"carrier": "AA", "distance_mi": 1.0, "at": "2013-07-01T12:00:00"}, "dtype"),
    ({"carrier": "AA", "distance_mi": 1.0, "at": "yesterday"}, "dtype"),
    ({"carrier": "AA", "distance_mi": 1.0, "at": 1372680000}, "dtype"),
]


@pytest.mark.parametrize(("row", "rule"), BAD_ROWS)
def test_a_row_that_breaks_the_signature_is_refused_by_rule(
    row: dict[str, Any], rule: str, signature: ModelSignature
) -> None:
    with pytest.raises(ContractBroken) as refused:
        take_rows([row], signature, max_rows=10)
    assert refused.value.rule == rule


def test_two_rows_with_one_key_are_refused(signature: ModelSignature) -> None:
    with pytest.raises(ContractBroken, match="two rows have the same trip"):
        invoke(signature, dataframe_records=[ROWS[0] | {"trip": "a"}, ROWS[1] | {"trip": "a"}])


BAD_INPUTS = [
    [column("carrier", "BYTES", ["AA"])],
    [column("carrier", "BYTES", ["AA"]), column("distance_mi", "FP64", [1.0, 2.0])],
    [column("carrier", "BYTES", ["AA"]), column("distance_mi", "FP64", ["far"])],
    [column("carrier", "BYTES", [1]), column("distance_mi", "FP64", [1.0])],
    [column("carrier", "BYTES", ["AA"]), column("distance_mi", "INT64", [1.5])],
    [column("carrier", "BYTES", ["AA"]), column("distance_mi", "INT64", [True])],
    [column("carrier", "BYTES", ["AA"]), column("distance_mi", "COMPLEX", [1.0])],
    [column("carrier", "BYTES", ["AA"])] * 2,
    [column("carrier", "BYTES", ["AA"]) | {"shape": [2]}],
    [column("carrier", "BYTES", ["AA"]) | {"shape": [-1]}],
    [column("carrier", "BYTES", ["AA"]) | {"shape": []}],
    [column("carrier", "BYTES", ["AA"]) | {"shape": [1, 1, 1]}],
    [{"name": "features", "datatype": "FP32", "shape": [1, 3], "data": [0, 1, 2]}],
    [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}],
    [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [9, 1]}],
    [{"name": "features", "datatype": "FP32", "shape": [10**9, 2], "data": []}],
    [],
]


@pytest.mark.parametrize("inputs", BAD_INPUTS)
def test_tensors_that_are_not_what_they_say_are_refused(
    inputs: list[dict[str, Any]], signature: ModelSignature
) -> None:
    with pytest.raises(ContractBroken):
        infer(signature, *inputs)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"rows": []},
        {"dataframe_records": ROWS, "instances": ROWS},
        {"dataframe_records": []},
        {"dataframe_records": {"carrier": "AA"}},
        {"dataframe_records": [1]},
        {"dataframe_records": [dict(ROWS[0]) for _ in range(11)]},
        {"dataframe_split": {"columns": ["carrier"], "data": [["AA", 1]]}},
        {"dataframe_split": {"columns": ["carrier", "carrier"], "data": [["AA", "AA"]]}},
        {"dataframe_split": [1]},
        {"inputs": {"carrier": ["AA"], "distance_mi": [1.0, 2.0]}},
        {"inputs": {}},
        {"inputs": "AA"},
        {"instances": [[0]]},
        {"instances": [[0, 1.0], 3]},
        {"instances": [[{}, 1.0]]},
    ],
)
def test_invocations_of_no_known_form_are_refused(
    document: dict[str, Any], signature: ModelSignature
) -> None:
    with pytest.raises(ContractBroken):
        invocations.parse(document, signature, max_rows=10)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e400}',
        b"\xff\xfe",
        b'{"a": "\\ud800"}',
        b"[" * 20_000 + b"]" * 20_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    ],
)
def test_what_is_no_json_object_is_refused_with_a_remedy_or_reason(body: bytes) -> None:
    with pytest.raises(ContractBroken, match=r"not a JSON object|not JSON") as refused:
        read_json(body)
    assert refused.value.rule == "json"
