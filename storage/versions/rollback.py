"""Take datasets back to an earlier commit: a new version with the old rows, never a revert."""

from collections.abc import Collection
from dataclasses import dataclass

from storage import tables
from storage.forgetting import forget, purge
from storage.lake import MAIN, Lake, Pin
from storage.runs import Job, Outcome, Provenance, Run, commit_once, records
from storage.runs.details import Details
from storage.runs.records import Record

STAGE = "rollback"
# What these did stays done: their rows are in no version that a rollback leads to.
_LASTING = (STAGE, forget.STAGE, purge.STAGE)


@dataclass(frozen=True, kw_only=True)
class RollbackDetails(Details):
    """Stage rollback; `supersedes` are the runs it undid, written `ingest/<run id>`."""

    reason: str
    actor: str
    datasets: tuple[str, ...]
    supersedes: tuple[str, ...]
    may_run_again: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What to take back, to where, why; `id` makes a repeated request one rollback."""

    id: str
    datasets: tuple[str, ...]
    to: Pin
    reason: str
    actor: str
    may_run_again: bool = False


def roll_back(
    lake: Lake, request: Request, *, on: str = MAIN, by: Provenance | None = None
) -> Outcome:
    """Rows and active files of the datasets become those of `request.to`; history only grows.

    The runs that wrote them since are recorded as superseded; a dataset that did not exist at
    the commit is emptied. Raises Refused if the commit is not in a table's history.
    """
    return commit_once(
        lake,
        Job(
            request.to.repository,
            STAGE,
            records.run_id(STAGE, request.id),
            inputs={"to": request.to},
            on=on,
            by=by,
        ),
        lambda run: _restore_all(run, request),
    )


def _restore_all(run: Run, request: Request) -> None:
    for dataset in request.datasets:
        before, after = tables.restore(run.lake, run.repository, run.branch, dataset, to=request.to)
        run.tables[dataset] = after.version
        run.touch(dataset)
        run.counts[f"{dataset}:before"] = before.rows
        run.counts[f"{dataset}:after"] = after.rows
    undone = runs_since(
        run.lake,
        run.base,
        request.to,
        request.datasets,
        may_run_again=request.may_run_again,
    )
    for record in undone:
        marked = record.superseded_by(run.run_id, may_run_again=request.may_run_again)
        run.replace(record.path, marked.to_json())
    run.describe(
        RollbackDetails(
            reason=request.reason,
            actor=request.actor,
            datasets=request.datasets,
            supersedes=tuple(f"{r.stage}/{r.run_id}" for r in undone),
            may_run_again=request.may_run_again,
        )
    )


def runs_since(
    lake: Lake, head: Pin, to: Pin, datasets: Collection[str], *, may_run_again: bool
) -> list[Record]:
    """Runs at `head` that are not at `to`, are about one of the datasets, and are to be undone.

    A run about a dataset that kept no row counts: its rows were held for duplicates of rows that
    go now. Runs that an earlier rollback undid count if they may run again and now may not, or
    the other way round.
    """
    since = records.find_changed(lake, to, head)
    there = ((head.commit, path) for path in since.there)
    return [
        r
        for r in records.read(lake, head.repository, there)
        if r is not None
        and r.stage not in _LASTING
        and _concerns(r) & set(datasets)
        and (r.superseded is None or r.superseded.may_run_again != may_run_again)
    ]


def _concerns(record: Record) -> set[str]:
    """Datasets that the run wrote, or looked at and found as they should be."""
    counted = {name.rpartition(":")[0] for name in record.counts}
    return {*record.tables, *counted, str(record.details.get("dataset", ""))}
