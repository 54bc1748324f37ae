"""Every batch that was handed over, and what became of it."""

from dataclasses import dataclass, replace
from typing import Literal

from storage import landing
from storage.lake import Lake, Pin
from storage.landing import Batch, IngestDetails
from storage.runs import records
from storage.runs.records import Record
from storage.waiting_batches import INGEST, run_of

State = Literal["waiting", "merged", "refused", "undone"]


@dataclass(frozen=True, slots=True)
class BatchState:
    """A sealed batch and its state on one branch.

    undone: a rollback took it back for good. `rule`, `column` and `problem` say why a batch was
    refused; `same_as` names the batch under whose id the same files were merged.
    """

    dataset: str
    id: str
    files: int
    size_bytes: int
    state: State
    run_id: str
    delivered: int | None = None
    kept: int | None = None
    quarantined: int | None = None
    duplicates: int | None = None
    rule: str = ""
    column: str = ""
    problem: str = ""
    same_as: str = ""


def batch_states(lake: Lake, head: Pin, stock: Pin) -> list[BatchState]:
    """The batches at `stock`, a landing commit, as they stand at `head`; by dataset and id."""
    runs = {record.run_id: record for record in records.at(lake, head, stage=INGEST)}
    return [_state(batch, runs) for batch in landing.batches(lake, stock)]


def _state(batch: Batch, runs: dict[str, Record]) -> BatchState:
    run = run_of(batch)
    size = sum(file.size for file in batch.files)
    state = BatchState(batch.dataset, batch.id, len(batch.files), size, "waiting", run)
    if (why := batch.refused) is not None:
        return replace(
            state, state="refused", rule=why["rule"], column=why["column"], problem=why["problem"]
        )
    record = runs.get(run)
    return state if record is None or not record.stands else _landed(state, record)


def _landed(waiting: BatchState, record: Record) -> BatchState:
    merged_as = IngestDetails.of(record).batch
    return replace(
        waiting,
        state="undone" if record.superseded else "merged",
        delivered=record.counts["delivered"],
        kept=record.counts["kept"],
        quarantined=record.counts["quarantined"],
        duplicates=record.counts["duplicates"],
        same_as="" if merged_as == waiting.id else merged_as,
    )
