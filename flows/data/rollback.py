"""A rollback of datasets in two steps: what it would change, and the change itself."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from flows.context import Context
from flows.tables import quarantine_table
from storage import tables
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.runs import Outcome, records
from storage.runs.records import Record
from storage.tables import Snapshot
from storage.versions import rollback
from storage.versions.rollback import Request, RollbackDetails


@dataclass(frozen=True, slots=True)
class DatasetStep:
    """One dataset as it stands and as it stood; `then` is None if it did not exist yet."""

    table: str
    now: Snapshot
    then: Snapshot | None

    @property
    def changes(self) -> bool:
        """Whether the rollback would bring back other files."""
        return self.now.files != (self.then.files if self.then else ())


@dataclass(frozen=True, slots=True)
class DataPlan:
    """What a rollback of `steps` to `to` would do to the branch at `head`."""

    head: Pin
    to: Pin
    steps: tuple[DatasetStep, ...]
    undone: tuple[Record, ...]
    may_run_again: bool

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of what is taken back."""
        return tuple(step.table for step in self.steps)

    @property
    def is_done(self) -> bool:
        """Whether the datasets are as they were already, and no run is left to undo."""
        return not self.undone and not any(step.changes for step in self.steps)

    @property
    def request_id(self) -> str:
        """The same for the same command at the same head: sent twice, it is one rollback."""
        text = "\n".join((str(self.head), str(self.to), *sorted(self.datasets)))
        return hashlib.sha256(text.encode()).hexdigest()


def plan_datasets(
    lake: Lake,
    *,
    head: Pin,
    to: Pin,
    datasets: Sequence[str] | None,
    may_run_again: bool,
    missing_ok: bool = False,
) -> DataPlan:
    """Look at the datasets, or at all, on both sides; a dataset brings its quarantine along.

    Raises: Refused if `to` is not in the history of `head`, NotFound for a dataset that is named
    and does not exist at `head` or `to`; with `missing_ok` it is passed over, or emptied.
    """
    there = tables.names(lake, head.repository, head.commit)
    if datasets is not None and missing_ok:
        datasets = [name for name in datasets if name in there]
    wanted = there if datasets is None else _with_quarantine(datasets, there)
    steps = [_plan_dataset(lake, head, to, name) for name in wanted]
    if datasets is not None and not missing_ok:
        _refuse_missing(to, [s.table for s in steps if s.then is None and s.table in datasets])
    undone = rollback.runs_since(lake, head, to, wanted, may_run_again=may_run_again)
    return DataPlan(head, to, tuple(steps), tuple(undone), may_run_again)


def roll_back_datasets(
    context: Context, plan: DataPlan, *, request_id: str, on: str, reason: str
) -> Outcome:
    """Do what was planned, once per request id.

    A run that merged after the plan was made is undone as well; the outcome's record lists it.
    """
    request = Request(
        request_id,
        plan.datasets,
        plan.to,
        reason,
        context.actor,
        plan.may_run_again,
    )
    return rollback.roll_back(context.lake, request, on=on, by=context.origin)


def find_rollback(lake: Lake, plan: DataPlan) -> Record | None:
    """The newest rollback of these datasets to this commit, if there was one."""
    for record in records.at(lake, plan.head, stage=rollback.STAGE):
        covers = set(plan.datasets) <= set(RollbackDetails.of(record).datasets)
        if covers and record.inputs["to"] == str(plan.to):
            return record
    return None


def _with_quarantine(datasets: Sequence[str], there: Sequence[str]) -> list[str]:
    """The runs that are undone wrote both, so both go back."""
    held = [quarantine_table(name) for name in datasets]
    return list(dict.fromkeys([*datasets, *(name for name in held if name in there)]))


def _plan_dataset(lake: Lake, head: Pin, to: Pin, table: str) -> DatasetStep:
    now = tables.snapshot(lake, head.repository, head.commit, table)
    return DatasetStep(table, now, tables.earlier(lake, head.repository, head.commit, table, to=to))


def _refuse_missing(to: Pin, missing: Sequence[str]) -> None:
    if missing:
        raise NotFound(
            f"There was no dataset {missing[0]} at {to.commit[:12]}.",
            remedy=f"Choose a later commit: `headrace data log {missing[0]}` prints them.",
        )
