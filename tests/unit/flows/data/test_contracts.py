import dataframely as dy
import polars as pl

from examples.flights.pipeline import pipeline
from flows.data.catalog import in_order
from flows.data.contracts import columns, row_keys, table_rules
from flows.pipeline import Dataset


class Readings(dy.Schema):
    id = dy.Int64(primary_key=True)
    height = dy.Float64(min_exclusive=0.0, max=9.5, metadata={"unit": "m"})
    code = dy.String(nullable=True, regex="^[A-Z]+$", max_length=3)

    @dy.rule()
    def tall_ones_have_a_code(cls) -> pl.Expr:  # noqa: N805
        """Above 5 m there is a code."""
        return pl.col("code").is_not_null() | (pl.col("height") <= 5)


def test_every_table_that_can_land_has_a_key_and_so_has_its_quarantine() -> None:
    keys = row_keys(pipeline)
    assert keys["weather"] == ("origin", "observed_at")
    assert keys["quarantine/weather"] == ("origin", "observed_at", "_batch", "_rule")
    assert keys["predictions"] == ("request_id", "flight_id")


def test_a_column_shows_its_unit_and_what_the_contract_demands() -> None:
    schema = pl.Schema({"id": pl.Int64, "height": pl.Float64, "code": pl.String, "x": pl.Int8})
    found = columns(schema, Dataset(name="readings", contract=Readings), ("id",))
    _, height, code, stray = found
    assert (found[0].key, height.key) == (True, False)
    assert (height.unit, height.rules) == ("m", ("> 0.0", "<= 9.5"))
    assert code.rules == ("at most 3 characters", "matches ^[A-Z]+$")
    assert (stray.nullable, stray.rules) == (None, ())


def test_rules_over_several_columns_come_with_their_meaning() -> None:
    assert table_rules(Dataset(name="readings", contract=Readings)) == {
        "tall_ones_have_a_code": "Above 5 m there is a code."
    }


def test_a_quarantine_stands_below_the_table_whose_rows_it_holds() -> None:
    names = ["quarantine/b", "b", "a", "quarantine/orphan"]
    assert in_order(names) == ["a", "b", "quarantine/b", "quarantine/orphan"]
