"""Ingest: every sealed batch that has not landed becomes checked rows on `main`, exactly once."""

from itertools import groupby
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.context import open_run
from flows.ingest.land import Landed, land, survey
from storage.lake import MAIN
from storage.landing import Batch, take_stock


@task(task_run_name="{dataset}", cache_policy=NO_CACHE, persist_result=False)
def land_batches(pipeline: str | None, dataset: str, batches: list[Batch], on: str) -> list[Landed]:
    """Check and merge a dataset's batches one after the other, or mark them refused."""
    context = open_run(pipeline)
    logger = get_run_logger()
    landed = []
    for batch in batches:
        landed.append(land(context.lake, context.pipeline, batch, on=on, by=context.origin))
        logger.info("%s/%s %s", dataset, batch.id, landed[-1].outcome)
    return landed


@flow(
    name="ingest",
    persist_result=False,
    # Prefect's own annotation does not accept its own runner.
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
)
def ingest(pipeline: str | None = None, on: str = MAIN) -> State[Any]:
    """Take stock of the landing branch, land what waits, say where every row went.

    Datasets land beside each other, the batches of one in their order. Fails when a batch was
    refused in this run; the good ones are merged all the same.
    """
    context = open_run(pipeline)
    context.create_repositories()
    stock = take_stock(context.lake, context.pipeline.repository)
    found = survey(context.lake, context.pipeline, stock, on=on)
    batches = list(found.waiting)
    for batch, first in found.repeated:
        get_run_logger().info(
            "%s/%s holds what %s landed: nothing to do", batch.dataset, batch.id, first
        )
    by_dataset = {name: list(some) for name, some in groupby(batches, lambda b: b.dataset)}
    futures = [land_batches.submit(pipeline, name, some, on) for name, some in by_dataset.items()]
    landed = [one for future in futures for one in future.result()]
    _show(landed)
    refused = [one for one in landed if one.outcome == "refused"]
    if refused:
        reasons = "; ".join(f"{r.dataset}/{r.batch}: {r.reason}" for r in refused)
        return Failed(message=f"{len(refused)} of {len(landed)} batches refused. {reasons}")
    rows = sum(one.kept for one in landed)
    return Completed(message=f"{len(landed)} batches landed, {rows:,} rows kept.")


def _show(landed: list[Landed]) -> None:
    if not landed:
        return
    table = [
        {
            "dataset": one.dataset,
            "batch": one.batch,
            "outcome": one.outcome,
            "delivered": one.delivered,
            "kept": one.kept,
            "quarantined": one.quarantined,
            "duplicates": one.duplicates,
            "rules": ", ".join(f"{rule}: {n}" for rule, n in one.rules.items()),
            "commit": one.commit[:12],
        }
        for one in landed
    ]
    create_table_artifact(
        key="batches",
        table=table,
        description="Rows delivered = kept + quarantined + duplicates, batch by batch.",
    )
