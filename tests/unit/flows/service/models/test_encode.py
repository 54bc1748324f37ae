import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import ContractBroken, Misconfigured
from flows.learn.exported import Encoding
from flows.service.models.encode import Encoder, read_encoding

ENCODING = Encoding(("load", "carrier", "hour"), {"carrier": ("AA", "DL", "Ω\x00")})

numbers = st.none() | st.floats(allow_nan=False, width=64)
carriers = st.none() | st.sampled_from(["AA", "DL", "Ω\x00", "ZZ", ""])
rows_of_a_request = st.lists(
    st.fixed_dictionaries({"load": numbers, "carrier": carriers, "hour": numbers}), min_size=1
)


def encoder() -> Encoder:
    return Encoder(read_encoding(ENCODING.to_json()))


@settings(deadline=None)
@given(rows_of_a_request)
def test_serving_encodes_exactly_as_fitting_did(rows):
    schema = {"load": pl.Float64, "carrier": pl.String, "hour": pl.Float64}
    fitted = ENCODING.matrix(pl.DataFrame(rows, schema=schema))
    np.testing.assert_array_equal(encoder().encode(rows), fitted)


def test_unknown_categories_are_counted_and_null_is_not():
    serving = encoder()
    serving.encode([{"load": 1, "carrier": c, "hour": 2} for c in ("ZZ", "AA", None, "YY")])
    serving.encode([{"load": 1, "carrier": "ZZ", "hour": 2}])
    assert serving.unknown == {"carrier": 3}


def test_no_rows_give_an_empty_matrix():
    assert encoder().encode([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "rule", "column"),
    [
        ({"load": "7"}, "dtype", "load"),
        ({"carrier": 7}, "dtype", "carrier"),
        ({"hour": [1]}, "dtype", "hour"),
        ({"load": True}, "dtype", "load"),
        ({"load": 10**400}, "max", "load"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(change, rule, column):
    with pytest.raises(ContractBroken) as caught:
        encoder().encode([{"load": 1.0, "carrier": "AA", "hour": 1.0, **change}])
    assert (caught.value.rule, caught.value.column) == (rule, column)


def test_an_absent_feature_is_refused_by_name():
    with pytest.raises(ContractBroken, match="no feature hour"):
        encoder().encode([{"load": 1.0, "carrier": "AA"}])


@pytest.mark.parametrize(
    "change",
    [{"format": "headrace-encoding/v2"}, {"more": 1}, {"features": "load"}, {"categories": [1]}],
)
def test_a_sidecar_of_another_format_is_refused(change):
    document = {**json.loads(ENCODING.to_json()), **change}
    with pytest.raises(Misconfigured, match=r"encoding\.json cannot be used"):
        read_encoding(json.dumps(document).encode())
