"""The audit log at a commit of the releases repository.

Its head has size and peaks of the tree; a segment has 64 entries, and all but the last are full
and never change; the checkpoint is a size and root that the timestamp role signed.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from security.audit.log import SEGMENT, Log, Peaks, check_growth, split_segment
from security.errors import Untrusted
from security.files import read_regular, replace_file
from security.formats.strict_json import from_bytes, to_bytes
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import layout

_MAX_FLOOR_BYTES = 16 * 2**10
_READERS = 8


def read_peaks(lake: Lake, repository: str, ref: str) -> Peaks:
    """The log's size and peaks at a ref; those of an empty log before the first entry.

    Raises: Untrusted if they are malformed.
    """
    try:
        return from_bytes(Peaks, lake.fs.get(repository, ref, layout.AUDIT_HEAD))
    except NotFound:
        return Peaks()


def read_segment(lake: Lake, repository: str, ref: str, number: int) -> list[bytes]:
    """One segment's lines. Raises: Untrusted if it is torn, or is not there."""
    try:
        return split_segment(lake.fs.get(repository, ref, layout.audit_segment(number)))
    except NotFound:
        raise Untrusted(
            f"the audit log was truncated: segment {number} is missing",
            remedy="bring the releases repository back from its history or a backup",
        ) from None


def read_log(lake: Lake, pin: Pin) -> Log:
    """The whole log, compared with its own head.

    Raises: Untrusted if a segment is missing, torn or too many, or the head speaks of another log.
    """
    head = read_peaks(lake, pin.repository, pin.commit)
    log = Log(tuple(_lines(lake, pin, 0, head.size)))
    listed = lake.fs.objects(pin.repository, pin.commit, prefix=layout.AUDIT_ENTRIES)
    expected = [layout.audit_segment(number) for number in range(-(-head.size // SEGMENT))]
    if [entry.path for entry in listed] != expected or len(log.lines) != head.size:
        raise Untrusted(
            f"the audit log was truncated or forked: its head speaks of {head.size} entries, "
            f"and there are {len(log.lines)} in {len(listed)} segments"
        )
    log.check_grown_from(head.size, head.tree.root)
    return log


def check_grown(lake: Lake, pin: Pin, floors: Path) -> Peaks:
    """Compare the log with what this installation last knew of it, and remember the new state.

    Reads only what was added. Raises: Untrusted if the log was truncated, rewritten or forked.
    """
    path = floor_path(floors, pin.repository)
    known, now = read_floor(path), read_peaks(lake, pin.repository, pin.commit)
    check_growth(known, now, _lines(lake, pin, known.size - known.size % SEGMENT, now.size))
    keep_floor(path, now)
    return now


def floor_path(floors: Path, repository: str) -> Path:
    """Where this installation remembers the log of a releases repository."""
    return floors / f"audit-{repository}.json"


def read_floor(path: Path) -> Peaks:
    """What was remembered; an empty log at first. Raises: Untrusted if the file is malformed."""
    if not path.exists() and not path.is_symlink():
        return Peaks()
    return from_bytes(Peaks, read_regular(path, max_bytes=_MAX_FLOOR_BYTES))


def keep_floor(path: Path, now: Peaks) -> None:
    """Remember `now`, unless a longer log is remembered already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if read_floor(path).size < now.size:
        replace_file(path, to_bytes(now))


def _lines(lake: Lake, pin: Pin, first: int, size: int) -> list[bytes]:
    """The lines from entry `first`, which begins a segment, to the last."""
    numbers = range(first // SEGMENT, -(-size // SEGMENT))
    if not numbers:
        return []
    # The last one first: a head may claim any size, and what it claims must be there.
    read_segment(lake, pin.repository, pin.commit, numbers[-1])
    with ThreadPoolExecutor(max_workers=_READERS) as readers:
        found = readers.map(lambda n: read_segment(lake, pin.repository, pin.commit, n), numbers)
        return [line for lines in found for line in lines]
