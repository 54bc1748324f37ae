"""Writing to the audit log: in the commit of what it tells of, or in one of its own.

Two writers who append at once collide on the head; the run transaction replays the loser behind
the winner. So no entry is lost, none is written twice, and none stands without what it tells of.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.audit import reading, spool
from flows.audit.events import SERVICE, Event, refusal_event
from flows.context import Context
from security.audit.log import SEGMENT, encode_entry
from security.errors import CannotDecrypt, Untrusted
from security.formats.strict_json import to_bytes
from storage.errors import StorageError
from storage.lake import LANDING, MAIN, Lake, releases
from storage.registry import layout
from storage.runs import Job, Provenance, Run, commit_once

# Where those who may not write the log leave what they have to tell, beside their predictions.
LEFT = "audit"
_TOLD_BY_OTHERS = frozenset({"refused", "decryption.failed"})
_MAX_COLLECTED = 100
_log = logging.getLogger(__name__)


def append_events(run: Run, *events: Event) -> None:
    """Add the events to the log in the run's own commit; reads one segment, never the log.

    For a run on the releases repository. Raises: Untrusted if head and last segment disagree.
    """
    where = run.lake, run.repository, run.branch
    before = reading.read_peaks(*where)
    first, held = divmod(before.size, SEGMENT)
    tail = reading.read_segment(*where, first) if held else []
    numbered = enumerate(events, before.size)
    added = [encode_entry(event.entry(number, run.run_id)) for number, event in numbered]
    after, lines = before.grow(tail, added), [*tail, *added]
    for start in range(0, len(lines), SEGMENT):
        body = b"".join(line + b"\n" for line in lines[start : start + SEGMENT])
        run.replace(layout.audit_segment(first + start // SEGMENT), body)
    run.replace(layout.AUDIT_HEAD, to_bytes(after))


def record_events(
    lake: Lake,
    pipeline: str,
    *events: Event,
    spool_folder: Path | None = None,
    by: Provenance | None = None,
) -> None:
    """Add the events in commits of their own, those that were spooled before among them.

    What the lake does not take is spooled, or said in the process's log where there is no spool:
    telling of a refusal must not replace it.
    """
    for event in events:
        if spool_folder is None or not spool.keep_event(spool_folder, event):
            _try_commit(lake, pipeline, event, by)
    for path, event in spool.list_waiting(spool_folder) if spool_folder else ():
        if not _try_commit(lake, pipeline, event, by):
            return
        path.unlink(missing_ok=True)


@contextmanager
def record_refusals(
    context: Context, *, subject: str, step: str = "", actor: str = ""
) -> Iterator[None]:
    """Tell the log of a verification or decryption that fails inside; the error goes on.

    `actor` is the context's own unless another is named. What the lake does not take is kept
    beside the keys folder until it does.
    """
    try:
        yield
    except (Untrusted, CannotDecrypt) as error:
        event = refusal_event(actor or context.actor, subject, error, step=step)
        record_events(
            context.lake,
            context.pipeline.name,
            event,
            spool_folder=context.keys.parent / "audit-spool",
            by=context.origin,
        )
        raise


def hand_over(lake: Lake, pipeline: str, folder: Path) -> bool:
    """Hand over what a service spooled to the `landing` branch of its data repository.

    A serving key writes there and nowhere else. False if the lake did not take all of it.
    """
    try:
        for path, event in spool.list_waiting(folder):
            place = f"{LEFT}/{spool.name_of(event)}.json"
            lake.fs.put(pipeline, LANDING, place, to_bytes(event))
            path.unlink(missing_ok=True)
    except StorageError as error:
        _log.warning("audit events stay in the spool: %s", error)
        return False
    return True


def collect_events(lake: Lake, pipeline: str, *, by: Provenance | None = None) -> int:
    """Take over what services left, at most 100 at a time; returns how many events.

    Only refusals are believed, and each entry says that a service told it. Raises: StorageError.
    """
    left = lake.fs.objects(pipeline, LANDING, prefix=f"{LEFT}/")[:_MAX_COLLECTED]
    taken = 0
    for entry in left:
        event = _read_left_event(lake, pipeline, entry.path, entry.size)
        if event is not None:
            _commit(lake, pipeline, event, by)
            taken += 1
        lake.fs.delete(pipeline, LANDING, entry.path)
    return taken


def _read_left_event(lake: Lake, pipeline: str, path: str, size: int) -> Event | None:
    try:
        if size > spool.MAX_EVENT_BYTES:
            raise Untrusted(f"it has {size} bytes")
        event = spool.parse_event(lake.fs.get(pipeline, LANDING, path))
        if event.kind not in _TOLD_BY_OTHERS:
            raise Untrusted(f"a service may not tell of {event.kind}")
        if not event.actor.startswith(SERVICE):
            raise Untrusted(f"a service may not speak for {event.actor}")
        return event
    except Untrusted as error:
        _log.error("%s is not taken into the audit log: %s", path, error)
        return None


def _try_commit(lake: Lake, pipeline: str, event: Event, by: Provenance | None) -> bool:
    try:
        _commit(lake, pipeline, event, by)
    except (StorageError, Untrusted) as error:
        _log.error("the audit log did not take %s %s: %s", event.kind, event.subject, error)
        return False
    return True


def _commit(lake: Lake, pipeline: str, event: Event, by: Provenance | None) -> None:
    commit_once(
        lake,
        Job(
            releases(pipeline), layout.AUDIT, layout.audit_run(spool.name_of(event)), on=MAIN, by=by
        ),
        lambda run: append_events(run, event),
    )
