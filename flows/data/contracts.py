"""What the contracts say of a table's rows: their key, and what each column may hold."""

from collections.abc import Mapping
from dataclasses import dataclass

import dataframely as dy
import polars as pl

from flows.pipeline import Dataset, Pipeline
from flows.tables import datasets_of, quarantine_table

_BOUNDS = {
    "min": ">= {}",
    "min_exclusive": "> {}",
    "max": "<= {}",
    "max_exclusive": "< {}",
    "min_length": "at least {} characters",
    "max_length": "at most {} characters",
    "regex": "matches {}",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it stands in the table, and what its contract demands.

    `nullable` is None and `rules` are empty where no contract speaks of the column. `unit` is
    the contract's metadata `unit`; names such as `distance_mi` carry theirs themselves.
    """

    name: str
    type: str
    key: bool
    nullable: bool | None
    unit: str
    rules: tuple[str, ...]


def row_keys(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Table name to the columns that tell its rows apart, quarantine tables too.

    One row may be quarantined in several batches and under several rules, so both count.
    """
    keys = {name: dataset.key for name, dataset in datasets_of(pipeline).items()}
    held = {quarantine_table(name): (*key, "_batch", "_rule") for name, key in keys.items()}
    return {**keys, **held}


def contract_of(pipeline: Pipeline, table: str) -> Dataset | None:
    """The dataset whose contract the table's rows keep, if one does."""
    return datasets_of(pipeline).get(table)


def columns(schema: pl.Schema, dataset: Dataset | None, key: tuple[str, ...]) -> list[Column]:
    """The table's columns in order, each with its contract's demands."""
    stated: Mapping[str, dy.Column] = dataset.contract.columns() if dataset else {}
    return [_column(name, dtype, stated.get(name), name in key) for name, dtype in schema.items()]


def table_rules(dataset: Dataset) -> dict[str, str]:
    """Rules over several columns: name to what they say."""
    found = {}
    for base in reversed(dataset.contract.__mro__):
        for name, rule in vars(base).items():
            if function := getattr(rule, "validation_fn", None):
                found[name] = (function.__doc__ or "").strip().split("\n")[0]
    return found


def _column(name: str, dtype: pl.DataType, stated: dy.Column | None, key: bool) -> Column:
    if stated is None:
        return Column(name, str(dtype), key, None, "", ())
    unit = str((stated.metadata or {}).get("unit", ""))
    return Column(name, str(dtype), key, stated.nullable, unit, _rules(stated))


def _rules(stated: dy.Column) -> tuple[str, ...]:
    bounds = ((text, getattr(stated, name, None)) for name, text in _BOUNDS.items())
    return tuple(text.format(bound) for text, bound in bounds if bound is not None)
