"""Merge a user's branch by key: its changed rows are re-applied on main's head, never its files.

Two branches that appended to one Delta table hold different files under the same log name, so
lakeFS alone can only refuse, or lose one side's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from storage import records, tables
from storage.compare import Changes, changes
from storage.errors import NotFound, Refused
from storage.lake import MAIN, Lake, Pin
from storage.runs import Outcome, Provenance, Run, commit_once

STAGE = "merge"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Side:
    """A table's changes since the merge base."""

    table: str
    changes: Changes


def merge_branch(
    lake: Lake,
    repository: str,
    source: str,
    *,
    keys: Mapping[str, Sequence[str]],
    into: str = MAIN,
    by: Provenance | None = None,
) -> Outcome:
    """Land what `source` changed since it left `into`, once per head of `source`.

    Raises: Refused with the keys that changed on both sides, or with uncommitted changes left
    on `source`, or for a schema change; `into` is then as it was.
    """
    if lake.fs.uncommitted(repository, source):
        raise Refused(
            f"Branch {source} has uncommitted changes.",
            remedy=f"Commit them, or drop them, then merge {source} again.",
        )
    head = lake.pin(repository, source)
    _refuse_second(lake, head, source, into)
    base = Pin(repository, lake.fs.merge_base(repository, source, into))
    ours = _changes_of(lake, base, head, keys)
    return commit_once(
        lake,
        repository,
        stage=STAGE,
        run_id=records.run_id(STAGE, head.commit, into),
        body=lambda run: _apply(run, ours, base, head, source),
        inputs={"source": head, "merge base": base},
        on=into,
        by=by,
    )


def _refuse_second(lake: Lake, head: Pin, source: str, into: str) -> None:
    """Rows were copied, not merged, so the merge base of the two refs did not move."""
    for record in records.at(lake, lake.pin(head.repository, into), stage=STAGE):
        if record.details["branch"] == source and record.inputs["source"] != str(head):
            raise Refused(
                f"Branch {source} was merged into {into} before, at another commit.",
                remedy=f"Make a new branch from {into} and put the new changes there.",
            )


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
    return [_Side(n, changes(lake, base, head, n, key=keys[n])) for n in names]


def _apply(run: Run, ours: Sequence[_Side], base: Pin, head: Pin, source: str) -> None:
    for side in ours:
        if side.changes.schema:
            raise Refused(
                f"{side.table} changed its schema: {'; '.join(side.changes.schema)}.",
                remedy="Change the contract in the pipeline first, and deliver in the new schema.",
            )
        _refuse_overlap(side, _theirs(run, base, side))
        _write(run, side)
        for kind in ("added", "changed", "removed"):
            run.counts[f"{side.table}:{kind}"] = getattr(side.changes, kind).height
    copied = _copy_records(run, base, head)
    run.details.update(source=str(head), branch=source, records=copied)


def _theirs(run: Run, base: Pin, side: _Side) -> pl.DataFrame:
    try:
        return changes(run.lake, base, run.base, side.table, key=side.changes.key).keys
    except NotFound:
        return side.changes.keys.clear()


def _refuse_overlap(side: _Side, theirs: pl.DataFrame) -> None:
    both = side.changes.keys.join(theirs, on=list(side.changes.key), how="semi", nulls_equal=True)
    if both.is_empty():
        return
    shown = ", ".join(str(row) for row in both.head(_SHOWN).rows())
    raise Refused(
        f"{both.height} keys of {side.table} changed on both sides: {shown}"
        f"{', …' if both.height > _SHOWN else ''}.",
        remedy="Decide those rows on your branch: take over what stands on the target, and merge.",
    )


def _write(run: Run, side: _Side) -> None:
    if side.changes.changed.is_empty() and side.changes.removed.is_empty():
        run.append(side.table, side.changes.added)
        return
    with tables.delta_errors(f"{side.table} on {run.repository}/{run.branch}"):
        _merge_rows(run, side)


def _merge_rows(run: Run, side: _Side) -> None:
    handle = tables.open_table(run.lake, run.repository, run.branch, side.table)
    match = " AND ".join(f'old."{k}" = new."{k}"' for k in side.changes.key)
    now = pl.concat([side.changes.added, side.changes.changed])
    if not side.changes.removed.is_empty():
        handle.merge(
            side.changes.removed, match, source_alias="new", target_alias="old"
        ).when_matched_delete().execute()
    if not now.is_empty():
        handle.merge(
            now, match, source_alias="new", target_alias="old"
        ).when_matched_update_all().when_not_matched_insert_all().execute()
    run.tables[side.table] = handle.version()


def _copy_records(run: Run, base: Pin, head: Pin) -> int:
    """Runs that wrote what is merged have then happened on the target too.

    Decisions made on the branch stay there with their ledger: they judged the branch.
    """
    copied = 0
    for change in run.lake.fs.diff(run.repository, base.commit, head.commit, prefix="metadata/"):
        if change.kind == "removed" or change.path.startswith("metadata/monitor/"):
            continue
        if run.lake.fs.exists(run.repository, run.base.commit, change.path):
            raise Refused(
                f"{change.path} stands on both sides: the run happened on both.",
                remedy="Roll it back on one side first.",
            )
        run.lake.fs.copy(run.repository, change.path, source_ref=head.commit, branch=run.branch)
        copied += 1
    return copied
