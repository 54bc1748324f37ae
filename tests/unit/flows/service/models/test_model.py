"""A served model scores exactly what it is given, and refuses what float32 cannot hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.errors import ContractBroken, Misconfigured
from flows.learn.exported import Encoding
from flows.service.models.model import ServedModel
from security.policy.documents import SizeLimits
from security.release.index import NamedRelease
from security.release.load import load_onnx
from tests.tiny_model import ROW, constant_model

ENCODING = Encoding(("carrier", "distance_mi"), {"carrier": ("AA", "B6")})


@pytest.fixture
def constant(tmp_path: Path) -> Callable[[float], ServedModel]:
    def make(score: float) -> ServedModel:
        (tmp_path / "model.onnx").write_bytes(constant_model(score))
        session = load_onnx(tmp_path / "model.onnx", limits=SizeLimits())
        reference = NamedRelease("trips", 3, "ab" * 32, "models/trips/3")
        return ServedModel(reference, ENCODING, key="trip", session=session)

    return make


def test_scores_are_the_positive_classs_probabilities(constant) -> None:
    model = constant(0.25)
    assert model.score([ROW] * 3, inline=True) == model.score([ROW] * 3, inline=False) == [0.25] * 3
    assert (model.release, model.digest) == ("trips/3", "ab" * 32)


def test_unknown_categories_of_both_threads_add_up(constant) -> None:
    model = constant(0.25)
    model.score([ROW | {"carrier": "ZZ"}], inline=True)
    model.score([ROW | {"carrier": "YY"}] * 2, inline=False)
    assert model.count_unknown_categories() == {"carrier": 3}


@pytest.mark.parametrize("number", [3.5e38, -3.5e38])
def test_a_number_beyond_float32_is_refused(constant, number: float) -> None:
    with pytest.raises(ContractBroken) as refused:
        constant(0.25).score([ROW | {"distance_mi": number}], inline=True)
    assert refused.value.code == "contract.range"


def test_the_example_warms_up_a_model_whose_answers_are_probabilities(constant) -> None:
    constant(1.0).warm_up(json.dumps([ROW] * 5).encode())


@pytest.mark.parametrize("score", [1.5, -0.5, float("nan")])
def test_an_answer_that_is_no_probability_ends_the_warm_up(constant, score: float) -> None:
    with pytest.raises(Misconfigured, match="no probability"):
        constant(score).warm_up(json.dumps([ROW]).encode())


def test_an_example_of_other_features_ends_the_warm_up(constant) -> None:
    with pytest.raises(ContractBroken, match="no distance_mi"):
        constant(0.25).warm_up(b'[{"carrier": "AA"}]')


def test_the_spools_columns_are_those_of_the_predictions_table(constant) -> None:
    assert constant(0.25).list_spool_columns() == {
        "request_id": "String",
        "trip": "String",
        "at": "Moment",
        "predicted_at": "Moment",
        "release": "String",
        "score": "Float64",
        "carrier": "String",
        "distance_mi": "Float64",
    }
