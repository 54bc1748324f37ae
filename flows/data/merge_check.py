"""What a merge must leave behind: a dataset that keeps its contract."""

from collections.abc import Mapping

import polars as pl

from flows.data.contracts import contract_of, row_keys
from flows.pipeline import Dataset, Pipeline
from storage.errors import Refused
from storage.lake import MAIN, Lake
from storage.runs import Outcome, Provenance
from storage.versions.merge_by_key import Applied, Check, merge_branch

_KEY_RULE = "primary_key"
_SHOWN = 3


def merge(
    lake: Lake, pipeline: Pipeline, source: str, *, into: str = MAIN, by: Provenance | None = None
) -> Outcome:
    """Merge a person's branch by key; the rows it brings and the result keep the contracts.

    Raises: Refused as `merge_branch`, and for a rule that the result would break; `into` is then
    as it was.
    """
    keys = row_keys(pipeline)
    check = contract_check(pipeline)
    repository = pipeline.repository
    return merge_branch(lake, repository, source, keys=keys, into=into, check=check, by=by)


def contract_check(pipeline: Pipeline) -> Check:
    """Raises Refused for a table whose merged rows break its contract; others are not judged.

    Rules are checked on the rows that the merge brings, as ingest does with a batch: what the
    target shows besides was checked when it came. The key is checked on the whole result.
    """

    def check(applied: Applied, is_last: bool) -> None:
        dataset = contract_of(pipeline, applied.table)
        if dataset is None:
            return
        _refuse_other_columns(applied.rows, dataset)
        _refuse_broken(_broken(applied.rows, dataset), applied.table)
        if is_last and applied.table in applied.run.tables:
            _refuse_repeated_keys(applied.result(), dataset)

    return check


def _broken(rows: pl.DataFrame, dataset: Dataset) -> Mapping[str, int]:
    _, failure = dataset.contract.filter(rows)
    return {rule: n for rule, n in failure.counts().items() if rule != _KEY_RULE}


def _refuse_other_columns(rows: pl.DataFrame, dataset: Dataset) -> None:
    stated = dataset.contract.columns()
    wrong = [
        f"{name} is {rows.schema.get(name, 'missing')}"
        for name, column in stated.items()
        if name not in rows.schema or not column.validate_dtype(rows.schema[name])
    ]
    wrong += [f"{name} is in no contract" for name in rows.columns if name not in stated]
    if wrong:
        raise Refused(
            f"{dataset.name} on the branch is not what its contract says: {'; '.join(wrong)}.",
            remedy="Write the branch's table with the contract's columns, then merge it.",
        )


def _refuse_broken(rules: Mapping[str, int], table: str) -> None:
    if rules:
        said = ", ".join(f"{n:,} break {rule}" for rule, n in rules.items())
        raise Refused(
            f"The merged rows of {table} would not keep its contract: {said}.",
            remedy="Correct them on the branch, commit, and merge again.",
        )


def _refuse_repeated_keys(result: pl.LazyFrame, dataset: Dataset) -> None:
    key = list(dataset.key)
    if not key:
        return
    counted = result.group_by(key).agg(pl.len().alias("_rows")).filter(pl.col("_rows") > 1)
    repeated = counted.select(key).head(_SHOWN).collect(engine="streaming")
    if not repeated.is_empty():
        shown = ", ".join(str(row) for row in repeated.rows())
        raise Refused(
            f"Keys would stand more than once in {dataset.name}: {shown}.",
            remedy="Leave one row of each on the branch, commit, and merge again.",
        )
