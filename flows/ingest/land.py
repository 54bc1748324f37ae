"""Stage ingest without Prefect: which batches wait, and how one lands or is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from flows.errors import ContractBroken
from flows.ingest.validate import check_batch
from flows.pipeline import Dataset, Pipeline
from flows.tables import datasets_of, quarantine_table
from storage import landing, waiting_batches
from storage.errors import Damaged, NotFound
from storage.lake import MAIN, Lake, Pin
from storage.landing import Batch, IngestDetails
from storage.runs import Job, Provenance, Run, commit_once
from storage.waiting_batches import INGEST, Stock, run_of


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


def survey(lake: Lake, pipeline: Pipeline, landed: Pin, *, on: str = MAIN) -> Stock:
    """The batches to take, datasets in the pipeline's order, and those that only repeat others.

    The same content under two ids waits once.
    """
    found = waiting_batches.survey(lake, landed, lake.pin(pipeline.repository, on))
    order = list(datasets_of(pipeline))
    waiting = sorted(found.waiting, key=lambda b: (_rank(order, b.dataset), b.dataset, b.id))
    return replace(found, waiting=tuple(waiting))


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
                INGEST,
                run_of(batch),
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


def _rank(order: list[str], dataset: str) -> int:
    return order.index(dataset) if dataset in order else len(order)
