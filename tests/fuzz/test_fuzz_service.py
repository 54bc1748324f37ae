"""The prediction service's request bodies, both protocols, down to the matrix a model is given."""

import functools
from typing import Any

import pytest

from flows.errors import StageError
from flows.learn.exported import Encoding
from flows.service.http import inference, invocations
from flows.service.http.predict import read_json
from flows.service.models.encode import Encoder
from flows.service.models.rows import ModelSignature

NAMES = ["invocations", "infer"]
CARRIERS = ("AA", "B6", "UA")
ENCODING = Encoding(("carrier", "distance_mi", "hour"), {"carrier": CARRIERS})
SIGNATURE = ModelSignature.of(ENCODING, key="trip")
INVOCATIONS = (
    b'{"dataframe_records":[{"carrier":"AA","distance_mi":100.0,"hour":3,"trip":"t1",'
    b'"at":"2013-07-01T12:00:00Z"},{"carrier":null,"distance_mi":null,"hour":null}]}',
    b'{"dataframe_split":{"columns":["carrier","distance_mi","hour"],"data":[["AA",1.5,2]]}}',
    b'{"inputs":{"carrier":["AA"],"distance_mi":[1],"hour":[2]}}',
    b'{"instances":[{"carrier":"ZZ","distance_mi":-1e308,"hour":0}]}',
)
INFER = (
    b'{"id":"x","inputs":[{"name":"carrier","datatype":"BYTES","shape":[2],"data":["AA",null]},'
    b'{"name":"distance_mi","datatype":"FP32","shape":[2,1],"data":[[1],[2]]},'
    b'{"name":"hour","datatype":"INT64","shape":[2],"data":[1,2]}]}',
    b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,3],"data":[[0,1.5,2]]}],'
    b'"outputs":[{"name":"score"}]}',
)


@functools.cache
def targets(fuzz: Any) -> tuple[Any, ...]:
    model = Encoder(ENCODING)

    def read_invocations(data: bytes) -> object:
        rows = invocations.parse(read_json(data), SIGNATURE, max_rows=1000)
        return model.encode(rows.features)

    def read_infer(data: bytes) -> object:
        rows, _ = inference.parse(read_json(data), SIGNATURE, max_rows=1000)
        return model.encode(rows.features)

    return (
        fuzz.Target("invocations", read_invocations, INVOCATIONS, (StageError,), 60_000),
        fuzz.Target("infer", read_infer, INFER, (StageError,), 40_000),
    )


@pytest.mark.parametrize("name", NAMES)
def test_hostile_bodies_are_refused_in_the_documented_way(name: str, fuzz: Any) -> None:
    fuzz.short(next(target for target in targets(fuzz) if target.name == name))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_tens_of_thousands_of_hostile_bodies(name: str, fuzz: Any) -> None:
    share = next(target.inputs for target in targets(fuzz) if target.name == name)
    print(fuzz.child(__file__, name, share * fuzz.long_inputs // 1_000_000))


def test_every_target_has_a_test(fuzz: Any) -> None:
    assert [target.name for target in targets(fuzz)] == NAMES
