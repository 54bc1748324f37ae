"""The tables at a commit: how large each is, who wrote it last, what its contract says."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from flows.data.contracts import Column, columns, contract_of, row_keys, table_rules
from flows.data.history import Entry, last_writers
from flows.pipeline import Pipeline
from flows.tables import quarantine_table
from storage import tables
from storage.errors import Damaged, NotFound, Refused
from storage.forgetting.forget import STAGE as FORGET
from storage.lake import Lake, Pin
from storage.landing import IngestDetails
from storage.runs import records
from storage.waiting_batches import INGEST

_COUNTS = ("delivered", "kept", "quarantined", "duplicates")


@dataclass(frozen=True, slots=True)
class Table:
    """One table at a commit; `writer` is the newest commit that wrote it.

    Numbers are None where it cannot be read: its bytes were purged, or no dataset has such a name.
    """

    table: str
    rows: int | None
    size_bytes: int | None
    files: int | None
    version: int | None
    writer: Entry | None


@dataclass(frozen=True, slots=True)
class Quality:
    """Rows delivered to a dataset, by what became of them, over the batches that stand.

    `forgotten` are rows that were kept and taken out since, at a person's wish or by their age.
    """

    batches: int
    delivered: int
    kept: int
    quarantined: int
    duplicates: int
    rules: Mapping[str, int]
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Description:
    """One table in full; `rules` are the contract's rules over several columns."""

    table: Table
    columns: tuple[Column, ...]
    rules: Mapping[str, str]
    quality: Quality | None
    first: pl.DataFrame


def tables_at(lake: Lake, pin: Pin) -> list[Table]:
    """Every table, each followed by its quarantine."""
    names = tables.names(lake, pin.repository, pin.commit)
    writers = last_writers(lake, pin, names)
    return [_table(lake, pin, name, writers) for name in in_order(names)]


def describe(lake: Lake, pipeline: Pipeline, pin: Pin, table: str, *, rows: int) -> Description:
    """Schema, size, quality and the first rows of a table. Raises NotFound."""
    scan = tables.scan(lake, pin, table)
    dataset = contract_of(pipeline, table)
    key = row_keys(pipeline).get(table, ())
    return Description(
        _table(lake, pin, table, last_writers(lake, pin, [table])),
        tuple(columns(scan.collect_schema(), dataset, key)),
        table_rules(dataset) if dataset else {},
        quality(lake, pin, table) if dataset else None,
        scan.head(rows).collect(),
    )


def quality(lake: Lake, pin: Pin, dataset: str) -> Quality:
    """The counts of every ingest run of the dataset that no rollback has undone."""
    runs = [
        record
        for record in records.at(lake, pin, stage=INGEST)
        if IngestDetails.of(record).dataset == dataset and record.superseded is None
    ]
    sums = {name: sum(run.counts[name] for run in runs) for name in _COUNTS}
    rules: Counter[str] = Counter()
    for run in runs:
        rules.update(IngestDetails.of(run).rules)
    gone = (one.counts.get(f"{dataset}:removed", 0) for one in records.at(lake, pin, stage=FORGET))
    return Quality(len(runs), **sums, rules=dict(rules.most_common()), forgotten=sum(gone))


def in_order(names: list[str]) -> list[str]:
    """By name, quarantine tables behind the table whose rows they hold."""
    held = {quarantine_table(name): name for name in names}
    return sorted(names, key=lambda name: (held.get(name, name), name in held))


def _table(lake: Lake, pin: Pin, name: str, writers: Mapping[str, Entry]) -> Table:
    try:
        found = tables.snapshot(lake, pin.repository, pin.commit, name)
    except (NotFound, Damaged, Refused):
        return Table(name, None, None, None, None, writers.get(name))
    return Table(
        name, found.rows, found.size_bytes, len(found.files), found.version, writers.get(name)
    )
