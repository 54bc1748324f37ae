"""From the files of a delivered batch to rows that keep the dataset's contract.

A file that cannot be this dataset is refused whole (ContractBroken). Rows that break a
rule are quarantined under the rule's name, keys that are already there are dropped, and
every row is counted: delivered = kept + quarantined + duplicates.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from flows.errors import ContractBroken
from flows.pipeline import Dataset

# Longest text where the contract states no max_length of its own.
MAX_TEXT_BYTES = 1024

# From this many rows on, a column without one value is a broken feed, not chance.
ALL_NULL_ROWS = 30

_KEY_RULE = "primary_key"

Source = bytes | Path


@dataclass(frozen=True)
class Counts:
    """Where the delivered rows went; `rules` counts the broken ones by rule name."""

    delivered: int
    kept: int
    quarantined: int
    duplicates: int
    rules: Mapping[str, int]


@dataclass(frozen=True)
class Checked:
    """A batch after its contract.

    kept: the dataset's columns in the contract's order, sorted by event time.
    quarantined: the same columns, then `_rule` and `_column` (comma-separated names of all
        that the row broke) and `_batch`; text over its limit is cut there.
    """

    kept: pl.DataFrame
    quarantined: pl.DataFrame
    counts: Counts

    @property
    def duplicates(self) -> int:
        """Rows dropped because their key was already in the batch or in the dataset."""
        return self.counts.duplicates


def check_batch(
    files: Mapping[str, Source],
    dataset: Dataset,
    *,
    batch: str,
    existing: pl.LazyFrame | None = None,
) -> Checked:
    """Check a batch's Parquet files (name -> bytes or path) against the contract.

    `existing` holds the keys that the dataset already has; of rows with one key the
    first valid one in file-name order stays.
    Raises: ContractBroken, with rule, column and counts, if a file cannot be read as
    this dataset or more rows break rules than the dataset allows.
    """
    delivered = pl.concat(
        [_read(name, files[name], dataset) for name in sorted(files)] or [_empty(dataset)]
    )
    _refuse_all_null(delivered, dataset)
    valid, broken = _split_by_rules(delivered, dataset)
    kept = _without_known_keys(valid, dataset, existing)
    quarantined = broken.with_columns(_batch=pl.lit(batch, dtype=pl.String))
    counts = Counts(
        delivered=delivered.height,
        kept=kept.height,
        quarantined=broken.height,
        duplicates=valid.height - kept.height,
        rules=_count_rules(broken),
    )
    _refuse_too_many(counts, dataset)
    return Checked(_in_time_order(kept, dataset), quarantined, counts)


def _read(name: str, source: Source, dataset: Dataset) -> pl.DataFrame:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise ContractBroken(
            f"{name} is empty: 0 bytes", rule="readable", remedy="deliver the file again"
        )
    try:
        scan = pl.scan_parquet(BytesIO(source) if isinstance(source, bytes) else source)
        schema = scan.collect_schema()
        _refuse_other_columns(name, schema, dataset)
        rows = scan.select(pl.len()).collect().item()
        if rows > dataset.max_batch_rows:
            raise ContractBroken(
                f"{name} holds {rows} rows, the limit is {dataset.max_batch_rows}",
                rule="max_batch_rows",
                remedy="deliver it in smaller batches",
            )
        return scan.select(dataset.contract.column_names()).collect()
    # A damaged file can also make polars panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise ContractBroken(
            f"{name} ({size} bytes) cannot be read as Parquet: {str(error).splitlines()[0]}",
            rule="readable",
            remedy="it may be half-written: deliver it again",
        ) from error


def _empty(dataset: Dataset) -> pl.DataFrame:
    return dataset.contract.create_empty().select(pl.all())


def _refuse_other_columns(name: str, schema: pl.Schema, dataset: Dataset) -> None:
    """Refuse columns that are missing, not in the contract, or of another type."""
    expected = dataset.contract.columns()
    for column in expected:
        if column not in schema:
            raise ContractBroken(
                f"{name} has no column {column}", rule="column_missing", column=column
            )
    for column, dtype in schema.items():
        if column not in expected:
            raise ContractBroken(
                f"{name} has a column {column} that is not in the contract of {dataset.name}",
                rule="column_extra",
                column=column,
            )
        if not expected[column].validate_dtype(dtype):
            _refuse_type(name, column, dtype, expected[column].dtype)


def _refuse_type(name: str, column: str, found: pl.DataType, expected: pl.DataType) -> None:
    rule, remedy = "dtype", "nothing is cast on the way in: deliver the contract's type"
    match found, expected:
        case pl.Datetime(time_zone=zone), pl.Datetime(time_zone=wanted) if zone != wanted:
            rule = "time_zone"
            remedy = f"deliver times with the zone {wanted} stated in the file"
    raise ContractBroken(
        f"{name}: {column} is {found}, the contract says {expected}",
        rule=rule,
        column=column,
        remedy=remedy,
    )


def _refuse_all_null(rows: pl.DataFrame, dataset: Dataset) -> None:
    if rows.height < ALL_NULL_ROWS:
        return
    for name, column in dataset.contract.columns().items():
        allowed = (column.metadata or {}).get("may_be_all_null", False)
        if not allowed and rows[name].null_count() == rows.height:
            raise ContractBroken(
                f"{name} is null in all {rows.height} rows of the batch",
                rule="all_null",
                column=name,
                remedy="the source has stopped filling it",
            )


def _split_by_rules(delivered: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Valid rows (repeated keys among them), and broken ones with `_rule` and `_column`."""
    within, too_long = _split_by_length(delivered, dataset)
    valid, failure = dataset.contract.filter(within)
    details = failure.details()
    # A repeated key is no broken row: which of them stays is decided later.
    rules = [r for r in details.columns if r not in within.columns and r != _KEY_RULE]
    named = details.with_columns(_rule=_names({r: pl.col(r) == "invalid" for r in rules}))
    repeated = named.filter(pl.col("_rule") == "").select(within.columns)
    broken = named.filter(pl.col("_rule") != "").select(*within.columns, "_rule")
    every_broken = pl.concat([too_long, broken]).with_columns(_column=_columns_of_rules())
    return pl.concat([valid.select(within.columns), repeated]), every_broken


def _split_by_length(rows: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Set giant text apart before any rule sees it, cut to its limit in characters."""
    limits = {
        name: getattr(column, "max_length", None) or MAX_TEXT_BYTES
        for name, column in dataset.contract.columns().items()
        if column.dtype == pl.String
    }
    over = {f"{n}|max_bytes_{m}": pl.col(n).str.len_bytes() > m for n, m in limits.items()}
    named = rows.with_columns(_rule=_names(over))
    too_long = named.filter(pl.col("_rule") != "").with_columns(
        pl.col(n).str.head(m) for n, m in limits.items()
    )
    return named.filter(pl.col("_rule") == "").drop("_rule"), too_long


def _names(broken: Mapping[str, pl.Expr]) -> pl.Expr:
    """The names of the rules that a row broke, comma-separated; empty if none."""
    each = [pl.when(is_broken).then(pl.lit(rule)) for rule, is_broken in broken.items()]
    none = pl.lit(None, dtype=pl.String)
    return pl.concat_str([none, *each], separator=",", ignore_nulls=True)


def _columns_of_rules() -> pl.Expr:
    """Column names out of `column|rule` names; a rule over several columns has none."""
    of_column = pl.element().filter(pl.element().str.contains("|", literal=True))
    columns = of_column.str.split("|").list.first()
    return (
        pl.col("_rule")
        .str.split(",")
        .list.eval(columns)
        .list.unique(maintain_order=True)
        .list.join(",")
    )


def _without_known_keys(
    rows: pl.DataFrame, dataset: Dataset, existing: pl.LazyFrame | None
) -> pl.DataFrame:
    key = list(dataset.key)
    if not key:
        return rows
    first = rows.unique(key, keep="first", maintain_order=True)
    if existing is None or first.is_empty():
        return first
    # Few keys arrive, many exist: stream the many past the few.
    known = existing.select(key).join(first.lazy().select(key), on=key, how="semi").collect()
    return first.join(known, on=key, how="anti", maintain_order="left")


def _in_time_order(rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    by = [*([dataset.event_time] if dataset.event_time else []), *dataset.key]
    return rows.sort(by) if by else rows


def _count_rules(broken: pl.DataFrame) -> dict[str, int]:
    names = Counter(name for rule in broken["_rule"] for name in rule.split(","))
    return dict(names.most_common())


def _refuse_too_many(counts: Counts, dataset: Dataset) -> None:
    if counts.quarantined <= dataset.max_quarantined * counts.delivered:
        return
    worst, rows = next(iter(counts.rules.items()))
    raise ContractBroken(
        f"{counts.quarantined} of {counts.delivered} rows for {dataset.name} break a rule, "
        f"{rows} of them {worst}; at most {dataset.max_quarantined:.1%} may",
        rule=worst,
        # The rule has the name that the pipeline's author gave it; the code must not.
        code="contract.too_many_quarantined",
        column=worst.partition("|")[0] if "|" in worst else "",
        remedy="nothing of the batch was taken: correct it at its source and deliver it again",
    )
