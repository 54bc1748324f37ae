from datetime import UTC, datetime

import dataframely as dy
import polars as pl
import pytest

from examples.flights.pipeline import pipeline as flights
from flows.tables import list_prediction_columns, predictions_dataset


def served(**changes: object) -> pl.DataFrame:
    now = datetime(2013, 5, 1, tzinfo=UTC)
    row = {"request_id": "r", "flight_id": "f", "at": now, "predicted_at": now}
    row |= {"release": "flights/3", "score": 0.25, **dict.fromkeys(flights.features), **changes}
    schema = {
        name: column.dtype
        for name, column in predictions_dataset(flights).contract.columns().items()
    }
    return pl.DataFrame([row], schema=schema)


def test_predictions_carry_every_feature_and_are_keyed_by_request_and_row():
    table = predictions_dataset(flights)
    assert table.key == ("request_id", "flight_id")
    assert issubclass(table.contract, dy.Schema)
    assert table.contract.is_valid(served())
    assert table.contract.is_valid(served(carrier="UA", seats=150.0))


@pytest.mark.parametrize("wrong", [{"score": 1.5}, {"release": "flights"}, {"request_id": None}])
def test_a_prediction_that_breaks_its_contract_is_seen(wrong):
    assert not predictions_dataset(flights).contract.is_valid(served(**wrong))


def test_what_the_service_spools_are_the_columns_of_the_contract():
    kinds = list_prediction_columns(flights.key, flights.features, flights.categorical)
    types = {"String": pl.String(), "Float64": pl.Float64(), "Moment": pl.Datetime("us", "UTC")}
    contract = predictions_dataset(flights).contract.columns()
    assert list(kinds) == list(contract)
    assert {name: types[kind] for name, kind in kinds.items()} == {
        name: column.dtype for name, column in contract.items()
    }
