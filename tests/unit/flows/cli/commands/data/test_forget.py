from pathlib import Path

import polars as pl
import pytest
import typer

from flows.cli.commands.data import forget
from flows.errors import Misconfigured
from tests.unit.flows.cli.commands.conftest import Run


@pytest.mark.parametrize("keys", [(), ("--key", "a=1", "--keys", "file.csv")])
def test_keys_are_given_in_one_way(run: Run, keys: tuple[str, ...]) -> None:
    done = run("data", "forget", "--dataset", "planes", "--reason", "r", *keys)
    assert done.exit_code == 2
    assert "--key COLUMN=VALUE or --keys FILE" in done.output


@pytest.mark.parametrize(
    ("texts", "columns", "values"),
    [
        (["a=1"], ["a"], [["1"]]),
        (["a=1", "a=2"], ["a"], [["1"], ["2"]]),
        (["a=1", "b=2"], ["a", "b"], [["1", "2"]]),
        (["a="], ["a"], [[""]]),
        (["a=b=c"], ["a"], [["b=c"]]),
    ],
)
def test_a_column_twice_is_two_keys_and_two_columns_are_one(
    texts: list[str], columns: list[str], values: list[list[str]]
) -> None:
    assert forget._parse_keys(texts) == (columns, values)


@pytest.mark.parametrize("texts", [["a"], ["=1"], ["a=1", "b=2", "a=3"]])
def test_other_keys_are_wrong_usage(texts: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        forget._parse_keys(texts)


def test_csv_and_parquet_give_the_same_keys_as_text(tmp_path: Path) -> None:
    (tmp_path / "keys.csv").write_text("id,name\n007,ann\n8,bob\n")
    frame = pl.DataFrame({"id": ["007", "8"], "name": ["ann", "bob"]})
    frame.write_parquet(tmp_path / "keys.parquet")
    for name in ("keys.csv", "keys.parquet"):
        found = forget._read_keys(tmp_path / name)
        assert found == (["id", "name"], [["007", "ann"], ["8", "bob"]])


@pytest.mark.parametrize("text", ["id\n", "id,name\n1,\n", ""])
def test_a_file_with_an_empty_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.csv").write_text(text)
    with pytest.raises(Misconfigured, match=r"keys\.csv"):
        forget._read_keys(tmp_path / "keys.csv")
