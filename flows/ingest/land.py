"""Stage ingest without Prefect: which batches wait, and how one lands or is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flows.errors import ContractBroken
from flows.ingest.validate import check_batch
from flows.pipeline import Dataset, Pipeline
from flows.tables import predictions_dataset, quarantine_table
from storage import landing
from storage.errors import Damaged, NotFound
from storage.lake import MAIN, Lake, Pin
from storage.landing import Batch, IngestDetails
from storage.runs import Job, Provenance, Run, commit_once, records

STAGE = "ingest"


@dataclass(frozen=True, slots=True)
class Landed:
    """What became of one batch; rows delivered = kept + quarantined + duplicates."""

    dataset: str
    batch: str
    outcome: Literal["merged", "already merged", "refused"]
    commit: str = ""
    delivered: int = 0
    kept: int = 0
    quarantined: int = 0
    duplicates: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


def datasets_of(pipeline: Pipeline) -> dict[str, Dataset]:
    """Everything that may land: the pipeline's datasets and Headrace's own."""
    own = predictions_dataset(pipeline)
    return {own.name: own, **{d.name: d for d in pipeline.datasets}}


@dataclass(frozen=True, slots=True)
class Stock:
    """What lies on `landing`: batches to take, and (repetition, first) of those taken before."""

    waiting: list[Batch]
    repeated: list[tuple[Batch, str]]


def waiting(lake: Lake, pipeline: Pipeline, stock: Pin, *, on: str = MAIN) -> list[Batch]:
    """Sealed batches that no standing run on `on` has taken, datasets in the pipeline's order.

    The same content under two ids waits once.
    """
    return survey(lake, pipeline, stock, on=on).waiting


def survey(lake: Lake, pipeline: Pipeline, stock: Pin, *, on: str = MAIN) -> Stock:
    """The waiting batches, and those that only repeat what another delivery landed."""
    head = lake.pin(pipeline.repository, on)
    taken = {
        r.run_id: IngestDetails.of(r).batch
        for r in records.at(lake, head, stage=STAGE)
        if _is_final(r)
    }
    found: dict[str, Batch] = {}
    repeated = []
    for batch in landing.batches(lake, stock):
        run = _run_id(batch)
        first = taken.get(run) or (found[run].id if run in found else batch.id)
        if batch.refused is None and first != batch.id:
            repeated.append((batch, first))
        elif batch.refused is None and run not in taken:
            found[run] = batch
    return Stock(_in_order(pipeline, found), repeated)


def _in_order(pipeline: Pipeline, found: Mapping[str, Batch]) -> list[Batch]:
    order = list(datasets_of(pipeline))
    return sorted(found.values(), key=lambda b: (_rank(order, b.dataset), b.dataset, b.id))


def land(
    lake: Lake, pipeline: Pipeline, batch: Batch, *, on: str = MAIN, by: Provenance | None = None
) -> Landed:
    """Check the batch and merge its good rows, its quarantine and its record at once.

    A batch that cannot be its dataset is refused: marked on `landing`, and `on` is untouched.
    """
    try:
        dataset = _dataset(pipeline, batch)
        files = landing.read(lake, batch)
        outcome = commit_once(
            lake,
            Job(
                pipeline.repository,
                STAGE,
                _run_id(batch),
                inputs={"landing": batch.pin},
                on=on,
                by=by,
            ),
            lambda run: _take(run, batch, dataset, files),
        )
    except (ContractBroken, Damaged) as error:
        return _refused(lake, batch, error)
    counts = outcome.record.counts
    return Landed(
        batch.dataset,
        batch.id,
        "already merged" if outcome.already else "merged",
        commit=outcome.pin.commit,
        delivered=counts["delivered"],
        kept=counts["kept"],
        quarantined=counts["quarantined"],
        duplicates=counts["duplicates"],
        rules=IngestDetails.of(outcome.record).rules,
    )


def _take(run: Run, batch: Batch, dataset: Dataset, files: Mapping[str, bytes]) -> None:
    try:
        existing = run.scan(dataset.name)
    except NotFound:
        existing = None
    checked = check_batch(files, dataset, batch=batch.id, existing=existing)
    run.append(dataset.name, checked.kept)
    if checked.kept.is_empty():
        # A rollback may be taking back the very rows that these are duplicates of.
        run.touch(dataset.name)
    run.append(quarantine_table(dataset.name), checked.quarantined)
    counts = checked.counts
    run.counts.update(
        delivered=counts.delivered,
        kept=counts.kept,
        quarantined=counts.quarantined,
        duplicates=counts.duplicates,
    )
    run.describe(
        IngestDetails(dataset=dataset.name, batch=batch.id, digest=batch.digest, rules=counts.rules)
    )


def _dataset(pipeline: Pipeline, batch: Batch) -> Dataset:
    try:
        return datasets_of(pipeline)[batch.dataset]
    except KeyError:
        raise ContractBroken(
            f"{pipeline.name} has no dataset {batch.dataset}",
            rule="dataset",
            remedy=f"it has {', '.join(datasets_of(pipeline))}",
        ) from None


def _refused(lake: Lake, batch: Batch, error: ContractBroken | Damaged) -> Landed:
    rule = error.rule if isinstance(error, ContractBroken) else "seal"
    column = error.column if isinstance(error, ContractBroken) else ""
    landing.refuse(
        lake,
        batch,
        {"rule": rule, "column": column, "problem": str(error), "remedy": error.remedy},
    )
    return Landed(batch.dataset, batch.id, "refused", rules={rule: 1}, reason=str(error))


def _run_id(batch: Batch) -> str:
    return records.run_id(STAGE, batch.digest)


def _is_final(record: records.Record) -> bool:
    """Whether the batch is done with: it stands, or a rollback said that it stays undone."""
    return record.superseded is None or not record.superseded.may_run_again


def _rank(order: list[str], dataset: str) -> int:
    return order.index(dataset) if dataset in order else len(order)
