"""Compaction: records become rows of `metadata/runs`, and every reader's summary moves on.

A run of its own, whose logical input is the compaction before it: two that start at once are one
run. It writes what no other run writes, so it never makes one replay. The records' objects stay:
they are what proves that a run happened.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from storage.errors import NotFound, StorageError
from storage.lake import MAIN, Lake, Pin
from storage.runs import record_table, records
from storage.runs.details import Details
from storage.runs.records import Changed
from storage.runs.summaries import Summary, to_json
from storage.runs.transaction import Job, Outcome, Provenance, Run, commit_once

STAGE = "compact"
# What is not compacted is read by every run that needs it: so many objects are cheap to read.
ENOUGH = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CompactDetails(Details):
    """Stage compact: the commit up to which records are rows."""

    up_to: str


def compact(
    lake: Lake,
    repository: str,
    summaries: Sequence[Summary],
    *,
    enough: int = ENOUGH,
    by: Provenance | None = None,
) -> Outcome | None:
    """Take over what is new since the last compaction; None if that is less than `enough`.

    The first one reads everything that an older version left. Raises as `commit_once`.
    """
    head = lake.pin(repository)
    base, new = _find_new(lake, head)
    # A record that changed may have lost what is to be forgotten: its row does not wait.
    if not new.before and len(new.there) < enough:
        return None
    return commit_once(
        lake,
        Job(
            repository,
            STAGE,
            records.run_id(STAGE, *(("after", base.commit) if base else ("first", head.commit))),
            on=MAIN,
            by=by,
        ),
        lambda run: _write(run, summaries),
    )


def _write(run: Run, summaries: Sequence[Summary]) -> None:
    """On a replay the head has moved: everything is found anew from there."""
    lake, head = run.lake, run.base
    base, new = _find_new(lake, head)
    if base is not None and record_table.is_there(lake, head):
        fresh = _leave_out_unreadable(records.read_bodies(lake, head, new.there))
        gone = records.read_bodies(lake, base, new.before)
        record_table.write_changes(lake, run.repository, run.branch, fresh, gone)
    else:
        everything = records.read_bodies(lake, head, records.list_paths(lake, head))
        fresh, gone = _leave_out_unreadable(everything), {}
        record_table.write_all(lake, run.repository, run.branch, fresh)
    for summary in (records.COMPACTED, *summaries):
        run.replace(summary.path, to_json(summary.at(lake, head)))
    run.counts.update(records=len(fresh), outdated=len(gone))
    run.describe(CompactDetails(up_to=head.commit))


def _find_new(lake: Lake, head: Pin) -> tuple[Pin | None, Changed]:
    """The commit of the last compaction, and which records differ since; all without one."""
    base = records.compacted_at(lake, head)
    if base is not None:
        with suppress(NotFound):
            return base, records.find_changed(lake, base, head)
    return None, Changed(added=tuple(records.list_paths(lake, head)))


def _leave_out_unreadable(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Only what is a run's record at its own path; anything else would speak for another run."""
    kept = {}
    for path, text in texts.items():
        try:
            is_own = records.read_record(path, text).path == path
        except StorageError as error:
            _log.error("%s is no row of the records: %s", path, error)
            continue
        if is_own:
            kept[path] = text
        else:
            _log.error("%s is no row of the records: it names another run", path)
    return kept
