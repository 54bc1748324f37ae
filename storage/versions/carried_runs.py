"""What a merge by key brings along besides rows: the records of the branch's runs."""

from storage.errors import Refused
from storage.lake import Pin
from storage.lake.client import Change
from storage.runs import Run, record_table
from storage.runs.records import Record

RECORDS, NOTES = record_table.ROOT, "forgotten/"
# Decisions made on the branch stay there with their ledger: they judged the branch. The table of
# records is the target's own, whose next compaction takes over what comes along.
_STAYS = (record_table.folder_of("monitor"), f"{record_table.FOLDER}/")


def copy_records(run: Run, base: Pin, head: Pin) -> int:
    """Runs that wrote what is merged have then happened, or are undone, on the target too.

    What the branch forgot still waits to be purged there. Returns how many records came along.
    Raises: Refused if a run happened on both sides since, or was undone on one only.
    """
    copied = [_copy_below(prefix, run, base, head) for prefix in (RECORDS, NOTES)]
    return copied[0]


def _copy_below(prefix: str, run: Run, base: Pin, head: Pin) -> int:
    theirs = {change.path for change in _written(run, base, run.base, prefix)}
    copied = 0
    for change in _written(run, base, head, prefix):
        if change.path in theirs and not _may_come(run, change.path, head):
            continue
        run.lake.fs.copy(run.repository, change.path, source_ref=head.commit, branch=run.branch)
        copied += 1
    return copied


def _may_come(run: Run, path: str, head: Pin) -> bool:
    """Over what the target has: where a rollback let the run happen again. Raises Refused."""
    here = run.lake.fs.get(run.repository, run.base.commit, path)
    there = run.lake.fs.get(run.repository, head.commit, path)
    if here == there:
        return False
    if path.startswith(RECORDS) and not Record.from_json(here, f"The record {path}").stands:
        return True
    raise Refused(
        f"{path} stands on both sides, and not alike: the run happened, or was undone, on each "
        "by itself.",
        remedy="Roll it back on one side first, with --may-run-again.",
    )


def _written(run: Run, left: Pin, right: Pin, prefix: str) -> list[Change]:
    found = run.lake.fs.diff(run.repository, left.commit, right.commit, prefix=prefix)
    return [c for c in found if c.kind != "removed" and not c.path.startswith(_STAYS)]
