"""From a request's body to its answer: who answers, under which id, and what is spooled."""

import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from flows.errors import ContractBroken
from flows.learn.exported import Encoding
from flows.service.http.predict import Predictor, RequestHead, measure_shadow
from flows.service.models.model import ServedModel
from flows.service.models.state import LoadedIndex, ServingState
from flows.service.predictions.spool import Spool, SpoolCounts, SpoolLimits

MakeModel = Callable[..., ServedModel]
BODY = json.dumps({"dataframe_records": [{"carrier": "AA", "distance_mi": None}]}).encode()
DIGEST = "0" * 64


def predictor(spool: Spool, champion: ServedModel, **more: ServedModel) -> Predictor:
    loaded = LoadedIndex(1, DIGEST, champion, **more)  # type: ignore[arg-type]
    for model in loaded.models:
        model.columns = spool.declare(model.list_spool_columns())
    serving = ServingState()
    serving.swap(loaded)
    return Predictor(serving, spool, max_rows=10)


def test_an_answer_has_the_callers_id_or_one_of_its_own(
    spool: Spool, make_model: MakeModel
) -> None:
    answers = predictor(spool, make_model())
    named = answers.answer(BODY, RequestHead("invocations", request_id="mine"), inline=True)
    other = [answers.answer(BODY, RequestHead("invocations"), inline=True) for _ in range(2)]
    assert orjson.loads(named.body)["request_id"] == named.request_id == "mine"
    assert len({answer.request_id for answer in other}) == 2
    assert all(len(answer.request_id) == 32 for answer in other)


def test_rows_that_find_the_spool_full_are_answered_and_counted(
    tmp_path: Path, make_model: MakeModel
) -> None:
    full = Spool(tmp_path / "full", prefix="test", limits=SpoolLimits(max_bytes=10))
    answer = predictor(full, make_model()).answer(BODY, RequestHead("invocations"), inline=True)
    assert answer.scores == [0.5]
    assert full.counts == SpoolCounts(spooled=0, delivered=0, lost=1)
    full.close()


def test_without_a_time_of_the_callers_the_prediction_is_for_now(
    spool: Spool, make_model: MakeModel
) -> None:
    predictor(spool, make_model()).answer(BODY, RequestHead("invocations"), inline=True)
    spool.rotate()
    (line,) = spool.waiting()[0].lines.read_bytes().splitlines()
    row = json.loads(line)
    assert row["at"] == row["predicted_at"]
    assert row["trip"] == "0"


def test_only_what_serves_can_be_asked_for(spool: Spool, make_model: MakeModel) -> None:
    answers = predictor(spool, make_model(2))
    for version in ("1", "02", "x"):
        with pytest.raises(ContractBroken) as refused:
            answers.answer(BODY, RequestHead("infer", "trips", version), inline=True)
        assert refused.value.code == "service.model_unknown"
        assert refused.value.remedy == "it serves trips/2"
    assert spool.counts == SpoolCounts(0, 0, 0)


def test_a_shadow_is_measured_against_what_was_answered(
    spool: Spool, make_model: MakeModel
) -> None:
    other = Encoding(("carrier", "distance_mi"), {"carrier": ("B6",)})
    answers = predictor(spool, make_model(1), shadow=make_model(2, encoding=other))
    answer = answers.answer(BODY, RequestHead("invocations"), inline=True)
    assert (answer.scores, measure_shadow(answer)) == ([0.5], [0.5])


def test_a_shadow_of_other_features_cannot_say(spool: Spool, make_model: MakeModel) -> None:
    other = Encoding(("carrier", "seats"), {"carrier": ("AA",)})
    answers = predictor(spool, make_model(1), shadow=make_model(2, encoding=other))
    answer = answers.answer(BODY, RequestHead("invocations"), inline=True)
    assert measure_shadow(answer) == []
