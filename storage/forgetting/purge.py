"""Purge: erase the bytes that forgotten rows still have in old versions.

lakeFS's commits never change. What it calls a hard delete takes an object's bytes from the storage
below it; commits that had the object then answer 410 for it. Whether bytes are gone is never
assumed: a purge is done when the lake itself cannot read one of them any more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from storage.errors import NotFound
from storage.forgetting.forget import STAGE as FORGET
from storage.forgetting.forget import ForgetDetails, note
from storage.forgetting.traces import Place
from storage.lake import MAIN, Lake, Pin
from storage.runs import Job, Provenance, Run, commit_once, records
from storage.runs.details import Details
from storage.runs.records import Record

STAGE = "purge"

# Erases the bytes at a physical address; false where it cannot.
Erase = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class PurgeDetails(Details):
    """Stage purge: the run id of the forgetting that it finished, and its reason."""

    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class Purge:
    """What became of one request.

    `held` names, by path, the branch that still shows the object; `left` are the physical
    addresses of bytes that could not be erased from here.
    """

    request: str
    due: datetime
    objects: int
    erased: int
    held: dict[str, str]
    left: tuple[str, ...]
    is_done: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A forgetting whose purge is not done, and a branch whose history has it."""

    request: Record
    branch: str

    @property
    def due(self) -> datetime:
        """When its old versions may go."""
        return ForgetDetails.of(self.request).purge_after


def purge(
    lake: Lake,
    repository: str,
    *,
    now: datetime,
    erase: Erase,
    dry_run: bool = False,
    on: str | None = None,
    by: Provenance | None = None,
) -> list[Purge]:
    """Carry out what is due, oldest first; given again, it goes on where it stopped.

    What a branch still shows is never erased: the request stays open and names the branch.
    """
    due = [one for one in waiting(lake, repository, on=on) if one.due <= now]
    held = _find_held(lake) if due else {}
    found = []
    for one in due:
        place = Pin(repository, lake.fs.head(repository, one.branch))
        done = _purge(lake, place, one, held, erase, dry_run=dry_run)
        if done.is_done:
            _record(lake, repository, one, done.objects, by)
        found.append(done)
    return found


def waiting(lake: Lake, repository: str, *, on: str | None = None) -> list[Waiting]:
    """What one branch forgot, or any of them, and was not purged yet; the first due comes first."""
    done: set[str] = set()
    found: dict[str, Waiting] = {}
    for branch in [on] if on else _branches(lake, repository):
        head = lake.pin(repository, branch)
        done |= {PurgeDetails.of(r).request for r in records.at(lake, head, stage=STAGE)}
        for record in records.at(lake, head, stage=FORGET):
            found.setdefault(record.run_id, Waiting(record, branch))
    left = [one for run, one in found.items() if run not in done]
    return sorted(left, key=lambda one: (one.due, one.request.run_id))


def _branches(lake: Lake, repository: str) -> list[str]:
    """`main` first: what was forgotten on it is purged from it."""
    named = [b for b in lake.fs.branches(repository) if not b.startswith("run-")]
    return sorted(named, key=lambda branch: (branch != MAIN, branch))


def _purge(
    lake: Lake, head: Pin, one: Waiting, held: dict[str, str], erase: Erase, *, dry_run: bool
) -> Purge:
    places = note(lake, head, one.request.run_id)
    kept: dict[str, str] = {}
    left: dict[str, None] = {}
    erased = 0
    for address, place in _present(lake, head.repository, places).items():
        if address in held:
            kept[place.path] = held[address]
        elif dry_run:
            left[address] = None
        elif erase(address) and not lake.fs.is_readable(head.repository, place.commit, place.path):
            erased += 1
        else:
            left[address] = None
    is_done = not dry_run and not kept and not left
    run = one.request.run_id
    return Purge(run, one.due, len(places), erased, kept, tuple(left), is_done)


def _record(lake: Lake, repository: str, one: Waiting, objects: int, by: Provenance | None) -> None:
    request = one.request

    def body(run: Run) -> None:
        run.counts["objects"] = objects
        reason = ForgetDetails.of(request).reason
        run.describe(PurgeDetails(request=request.run_id, reason=reason))

    run_id = records.run_id(STAGE, request.run_id)
    commit_once(lake, Job(repository, STAGE, run_id, on=one.branch, by=by), body)


def _present(lake: Lake, repository: str, places: list[Place]) -> dict[str, Place]:
    """Physical address to one object there, of those whose bytes can still be read."""
    found: dict[str, Place] = {}
    for place in places:
        try:
            address = lake.fs.address(repository, place.commit, place.path)
        except NotFound:
            continue
        if address not in found and lake.fs.is_readable(repository, place.commit, place.path):
            found[address] = place
    return found


def _find_held(lake: Lake) -> dict[str, str]:
    """Physical address to the branch, of any repository, that shows an object with these bytes."""
    return {
        entry.address: f"{repository}/{branch}"
        for repository in lake.fs.repositories()
        for branch in lake.fs.branches(repository, hidden=True)
        for entry in lake.fs.objects(repository, branch)
    }
