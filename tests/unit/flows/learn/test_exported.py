"""Rows become float32 with each category's code, and the sidecar says how."""

import json

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from flows.learn.exported import ENCODING, MODEL, Encoding, Exported

ENCODING_OF_TWO = Encoding(("seats", "carrier"), {"carrier": ("AA", "UA")})
NAMES = st.text(min_size=1, max_size=8)


def test_categories_become_their_place_and_what_was_not_seen_is_missing():
    rows = pl.DataFrame({"carrier": ["UA", "AA", "ZZ", None], "seats": [1.5, None, 0.1, 4.0]})
    matrix = ENCODING_OF_TWO.matrix(rows)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[:, 1], [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(matrix[:, 0], np.float32([1.5, np.nan, 0.1, 4.0]))


@given(
    st.lists(NAMES, unique=True, max_size=5), st.dictionaries(NAMES, st.lists(NAMES), max_size=3)
)
def test_an_encoding_survives_its_sidecar(features, categories):
    encoding = Encoding(tuple(features), {name: tuple(of) for name, of in categories.items()})
    document = encoding.to_json()
    assert Encoding.from_json(document) == encoding
    assert Encoding.from_json(document).to_json() == document


def test_the_sidecar_is_canonical_and_names_its_format():
    document = ENCODING_OF_TWO.to_json()
    assert json.loads(document)["format"] == "headrace-encoding/v1"
    assert document == (
        b'{"categories":{"carrier":["AA","UA"]},"features":["seats","carrier"],'
        b'"format":"headrace-encoding/v1"}'
    )


class Halves:
    """A session whose model believes the first feature."""

    def run(self, outputs, inputs):
        (matrix,) = inputs.values()
        assert outputs == ["probabilities"]
        return [np.stack([1 - matrix[:, 0], matrix[:, 0]], axis=1)]


def test_an_opened_model_predicts_behind_its_own_encoding(tmp_path):
    (tmp_path / ENCODING).write_bytes(ENCODING_OF_TWO.to_json())
    (tmp_path / MODEL).write_bytes(b"12345")
    model = Exported.read(tmp_path, Halves())
    rows = pl.DataFrame({"carrier": ["UA", "AA"], "seats": [0.25, 1.0]})
    scores = model.predict(rows)
    assert (scores.dtype, scores.tolist(), model.size) == (np.float64, [0.25, 1.0], 5)
