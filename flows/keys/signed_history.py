"""What a key had signed at a moment, as the releases repositories show it.

The commit that `main` stood at decides, not a date in a statement: whoever holds a stolen key can
write any date, but not into a commit whose id is known already. A client may date a commit as well,
so only an unbroken beginning of the history counts.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from security.formats.envelope import MAX_ENVELOPE_BYTES, read_payload_signed_by
from security.keys.pairs import PublicPair
from storage.lake import MAIN, Lake, Pin, releases
from storage.runs import record_table
from storage.versions.moments import REACH

_READERS = 8
# Records of runs; nobody signs them.
_UNSIGNED = (record_table.ROOT,)


@dataclass(frozen=True)
class SignedPayload:
    """One signed payload: where it stands, and its digest."""

    at: Pin
    path: str
    digest: str


def find_signed_before(
    lake: Lake, pair: PublicPair, moment: datetime | None
) -> list[SignedPayload]:
    """Every payload that `pair` signed and that stood on a releases `main` at `moment`, or stands.

    Raises: StorageError if the lake does not answer: an incomplete list would revoke silently.
    """
    return [kept for pin in _find_pins(lake, moment) for kept in _find_signed_at(lake, pair, pin)]


def find_commit_at(lake: Lake, head: Pin, moment: datetime) -> Pin | None:
    """The last first-parent commit before any that is younger than `moment`.

    A commit with an old date behind a younger one was dated by whoever made it.
    """
    found = None
    for commit in reversed(list(lake.fs.log(head.repository, head.commit, limit=REACH))):
        if datetime.fromtimestamp(commit.created_at, UTC) > moment:
            break
        found = Pin(head.repository, commit.id)
    return found


def _find_pins(lake: Lake, moment: datetime | None) -> Iterator[Pin]:
    for repository in lake.fs.repositories():
        if repository.endswith(releases("")):
            head = lake.pin(repository, MAIN)
            if pin := find_commit_at(lake, head, moment) if moment else head:
                yield pin


def _find_signed_at(lake: Lake, pair: PublicPair, pin: Pin) -> list[SignedPayload]:
    paths = [
        entry.path
        for entry in lake.fs.objects(pin.repository, pin.commit)
        if entry.path.endswith(".json")
        and entry.size <= MAX_ENVELOPE_BYTES
        and not entry.path.startswith(_UNSIGNED)
    ]

    def kept(path: str) -> SignedPayload | None:
        data = lake.fs.get(pin.repository, pin.commit, path)
        payload = read_payload_signed_by(data, pair)
        return (
            SignedPayload(pin, path, sha256(payload).hexdigest()) if payload is not None else None
        )

    with ThreadPoolExecutor(_READERS) as readers:
        return [one for one in readers.map(kept, paths) if one is not None]
