"""Merge a user's branch by key: its changed rows are re-applied on main's head, never its files.

Two branches that appended to one Delta table hold different files under the same log name, so
lakeFS alone can only refuse, or lose one side's rows.

A branch may be merged again: what counts then is what changed on it since the commit that was
merged before. A row is in conflict if the target does not show it as the branch last saw it,
and does not show it as the branch has it now either.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from storage import tables
from storage.errors import NotFound, Refused
from storage.lake import MAIN, Lake, Pin
from storage.runs import Job, Outcome, Provenance, Run, commit_once, records
from storage.runs.details import Details
from storage.tables.compare import PART_ROWS, Changes, Comparison, compare, together
from storage.versions.carried_runs import copy_records

STAGE = "merge"
_SHOWN = 5
_KINDS = ("added", "changed", "removed")


@dataclass(frozen=True, kw_only=True)
class MergeDetails(Details):
    """Stage merge: the commit and the branch that were merged, and how many records came along."""

    source: str
    branch: str
    records: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A table as a merge leaves it on its run branch, for a caller that checks the result.

    `rows` are those added or changed, part by part as they are written.
    """

    run: Run
    table: str
    rows: pl.DataFrame

    def result(self) -> pl.LazyFrame:
        """The whole table with the merge applied so far."""
        handle = tables.open_table(self.run.lake, self.run.repository, self.run.branch, self.table)
        return pl.scan_delta(handle, storage_options=self.run.lake.storage_options)


# Raises to refuse the merge; `is_last` says that every part of the table is applied.
Check = Callable[[Applied, bool], None]


@dataclass(frozen=True, slots=True)
class _Side:
    """A table's changes since the branch was last the target's equal."""

    table: str
    changes: Comparison


def merge_branch(
    lake: Lake,
    repository: str,
    source: str,
    *,
    keys: Mapping[str, Sequence[str]],
    into: str = MAIN,
    check: Check | None = None,
    by: Provenance | None = None,
) -> Outcome:
    """Land what `source` changed since it left `into` or was last merged, once per head.

    Raises: Refused with the keys that changed on both sides, or with uncommitted changes left
    on `source`, or for a schema change; what `check` raises; `into` is then as it was.
    """
    if lake.fs.list_uncommitted(repository, source):
        raise Refused(
            f"Branch {source} has uncommitted changes.",
            remedy=f"Commit them, or drop them, then merge {source} again.",
        )
    head = lake.pin(repository, source)
    base = merge_base(lake, head, source, into)
    ours = _changes_of(lake, base, head, keys)
    return commit_once(
        lake,
        Job(
            repository,
            STAGE,
            records.run_id(STAGE, head.commit, into),
            inputs={"source": head, "merge base": base},
            on=into,
            by=by,
        ),
        lambda run: _apply(run, ours, base, head, source, check),
    )


def merge_base(lake: Lake, head: Pin, source: str, into: str) -> Pin:
    """The branch's commit whose rows `into` has: where it left, or what was merged of it last.

    Raises: Refused if that merge was undone and may not run again.
    """
    repository = head.repository
    for record in records.at(lake, lake.pin(repository, into), stage=STAGE):
        before = Pin.parse(record.inputs["source"])
        if MergeDetails.of(record).branch != source or before == head:
            continue
        if not _is_in_history(lake, before, head):
            continue
        if record.superseded is None:
            return before
        if not record.superseded.may_run_again:
            raise Refused(
                f"{source} was merged into {into} before, and rollback "
                f"{record.superseded.by[:12]} undid that for good.",
                remedy=f"Make a new branch from {into} and put the new changes there.",
            )
    return Pin(repository, lake.fs.merge_base(repository, head.commit, into))


def _is_in_history(lake: Lake, before: Pin, head: Pin) -> bool:
    """False for a branch made anew under the name, even if the old one's commits are collected."""
    try:
        common = lake.fs.merge_base(head.repository, before.commit, head.commit)
    except NotFound:
        return False
    return common == before.commit


def _changes_of(lake: Lake, base: Pin, head: Pin, keys: Mapping[str, Sequence[str]]) -> list[_Side]:
    touched = lake.fs.diff(head.repository, base.commit, head.commit, prefix=f"{tables.ROOT}/")
    there = {n for pin in (base, head) for n in tables.names(lake, pin.repository, pin.commit)}
    folders = {n: f"{tables.path_of(n)}/" for n in there}
    names = sorted(n for n, f in folders.items() if any(c.path.startswith(f) for c in touched))
    if unknown := [n for n in names if n not in keys]:
        raise Refused(
            f"{unknown[0]} changed on the branch, and its key is not known.",
            remedy="Give the dataset a contract with a primary key in the pipeline.",
        )
    return [_Side(n, compare(lake, base, head, n, key=keys[n])) for n in names]


def _apply(
    run: Run, ours: Sequence[_Side], base: Pin, head: Pin, source: str, check: Check | None
) -> None:
    for side in ours:
        if side.changes.schema:
            raise Refused(
                f"{side.table} changed its schema: {'; '.join(side.changes.schema)}.",
                remedy="Change the contract in the pipeline first, and deliver in the new schema.",
            )
        _apply_table(run, side, base, head, check)
    copied = copy_records(run, base, head)
    run.describe(MergeDetails(source=str(head), branch=source, records=copied))


def _apply_table(run: Run, side: _Side, base: Pin, head: Pin, check: Check | None) -> None:
    """Compare part by part; write when enough has come together, since each write costs a scan."""
    run.counts.update({f"{side.table}:{kind}": 0 for kind in _KINDS})
    waiting: list[Changes] = []
    for mine, is_last in _mine(run, side, base, head):
        waiting.append(mine)
        if not is_last and sum(one.keys.height for one in waiting) < PART_ROWS:
            continue
        changes = together(waiting)
        waiting.clear()
        _write(run, side.table, changes)
        for kind in _KINDS:
            run.counts[f"{side.table}:{kind}"] += getattr(changes, kind).height
        if check:
            rows = pl.concat([changes.added, changes.changed])
            check(Applied(run, side.table, rows), is_last)
    if side.table not in run.tables:
        # A rollback may be taking back the very rows that the target has already.
        run.touch(side.table)


def _mine(run: Run, side: _Side, base: Pin, head: Pin) -> Iterator[tuple[Changes, bool]]:
    """The branch's changes that the target does not have, and whether they are the last."""
    table, key = side.table, side.changes.key
    since = _against(run, base, table, key)
    parts = max(side.changes.parts, since.parts if since else 1)
    for number in range(parts):
        ours = side.changes.part(number, parts)
        _refuse_repeated(table, ours, side.changes.repeated(number, parts))
        theirs = since.part(number, parts).keys if since else ours.keys.clear()
        apart = partial(_apart, run, head, table, key, number, parts)
        yield _unopposed(table, ours, theirs, apart), number == parts - 1


def _against(run: Run, pin: Pin, table: str, key: Sequence[str]) -> Comparison | None:
    """From a commit of the branch to the target as this attempt found it."""
    try:
        return compare(run.lake, pin, run.base, table, key=key)
    except NotFound:
        return None


def _unopposed(
    table: str, ours: Changes, theirs: pl.DataFrame, apart: Callable[[], pl.DataFrame]
) -> Changes:
    """Ours without what the target shows in the same way already. Raises Refused for conflicts."""
    key = list(ours.key)
    both = ours.keys.join(theirs, on=key, how="semi", nulls_equal=True)
    if both.is_empty():
        return ours
    conflicts = both.join(apart(), on=key, how="semi", nulls_equal=True)
    if conflicts.is_empty():
        return ours.without(both)
    shown = ", ".join(str(row) for row in conflicts.sort(key).head(_SHOWN).rows())
    raise Refused(
        f"{conflicts.height} keys of {table} changed on both sides: {shown}"
        f"{', …' if conflicts.height > _SHOWN else ''}.",
        remedy="Decide those rows on your branch: take over what stands on the target, and merge.",
    )


def _apart(
    run: Run, head: Pin, table: str, key: Sequence[str], number: int, of: int
) -> pl.DataFrame:
    """Keys of one part that the branch, as it is now, and the target do not show alike."""
    differs = _against(run, head, table, key)
    return differs.part(number, of).keys if differs else pl.DataFrame(schema=list(key))


def _refuse_repeated(table: str, ours: Changes, repeated: pl.DataFrame) -> None:
    """Rows that only arrived may repeat a key; which of two replaces one cannot be told."""
    repeated = repeated.join(ours.changed, on=list(ours.key), how="semi", nulls_equal=True)
    if repeated.is_empty():
        return
    shown = ", ".join(str(row) for row in repeated.head(_SHOWN).rows())
    raise Refused(
        f"{repeated.height} keys of {table} stand more than once on the branch: {shown}"
        f"{', …' if repeated.height > _SHOWN else ''}.",
        remedy="Leave one row of each on the branch, commit, and merge again.",
    )


def _write(run: Run, table: str, changes: Changes) -> None:
    if changes.changed.is_empty() and changes.removed.is_empty():
        run.append(table, changes.added)
        return
    with tables.delta_errors(f"{table} on {run.repository}/{run.branch}"):
        _merge_rows(run, table, changes)


def _merge_rows(run: Run, table: str, changes: Changes) -> None:
    handle = tables.open_table(run.lake, run.repository, run.branch, table)
    if not changes.removed.is_empty():
        gone = changes.removed.select(changes.key)
        handle.merge(
            gone, tables.match_on(changes.key, gone), source_alias="new", target_alias="old"
        ).when_matched_delete().execute()
    now = pl.concat([changes.added, changes.changed])
    if not now.is_empty():
        now = tables.conformed(now, handle, table)
        handle.merge(
            now, tables.match_on(changes.key, now), source_alias="new", target_alias="old"
        ).when_matched_update_all().when_not_matched_insert_all().execute()
    run.tables[table] = handle.version()
