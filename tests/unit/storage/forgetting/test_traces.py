"""Which rows are meant, and whether a table's log says a value itself."""

import json

import polars as pl
import pytest

from storage.forgetting.selection import ByKey
from storage.forgetting.traces import Place, Traces, rows_in, states

WHO = "the-person-to-forget"
SELECTION = ByKey(("person",), ((WHO,),))


def entry(*actions: dict[str, object]) -> bytes:
    return b"\n".join(json.dumps(action).encode() for action in actions)


@pytest.mark.parametrize(
    ("action", "stated"),
    [
        ({"commitInfo": {"operationParameters": {"predicate": f"person = '{WHO}'"}}}, True),
        ({"commitInfo": {"operationParameters": {"predicate": "person = 'somebody'"}}}, False),
        ({"add": {"path": "a.parquet", "partitionValues": {"person": WHO}}}, True),
        ({"remove": {"path": "a.parquet", "partitionValues": {"person": WHO}}}, True),
        ({"add": {"path": "a.parquet", "partitionValues": {}}}, False),
        ({"protocol": {"minReaderVersion": 1}}, False),
    ],
)
def test_an_entry_states_a_value_in_its_predicate_or_its_partition(
    action: dict[str, object], stated: bool
) -> None:
    assert states(entry({"metaData": {}}, action), SELECTION) is stated


def test_rows_are_counted_where_the_columns_are_and_nowhere_else() -> None:
    rows = pl.LazyFrame({"person": [WHO, "somebody", WHO]})
    assert rows_in(SELECTION, rows) == 2
    assert rows_in(SELECTION, rows.rename({"person": "name"})) == 0


def test_files_and_log_entries_lose_their_bytes_and_only_files_have_rows() -> None:
    file, log, other = Place("a", "1"), Place("b", "2"), Place("c", "3")
    found = Traces(files=(file,), logs=(log,), unreadable=(other,))
    assert found.places == (file, log)
    assert found.paths == {"a"}
