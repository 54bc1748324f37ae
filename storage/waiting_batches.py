"""Which batches wait: what lies on `landing`, against what the runs of a branch took of it.

Everything there is looked at once. From then on a compaction keeps the batches that are open, and
a survey looks at those, at what landed since and at what a rollback let run again since: its cost
is that of what is new. The summary names both commits that it was derived at, so that a survey
begins where the last one really ended, whoever delivers meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from storage import landing
from storage.lake import LANDING, Lake, Pin
from storage.landing import READY, REFUSED, Batch, IngestDetails
from storage.runs import record_table, records
from storage.runs.records import Record
from storage.runs.summaries import UNUSABLE, State, Summary

INGEST = "ingest"


@dataclass(frozen=True, slots=True)
class Stock:
    """What a survey found.

    waiting: the batches to take, one for each content. repeated: (repetition, first) of a content
    that was taken, or waits, under another id; of those looked at. `unfinished` are all that
    nobody took or refused, repetitions of what waits among them.
    """

    waiting: tuple[Batch, ...]
    repeated: tuple[tuple[Batch, str], ...]
    unfinished: tuple[Batch, ...]


def run_of(batch: Batch) -> str:
    """The run id of the batch's one ingest: the same content is one run."""
    return records.run_id(INGEST, batch.digest)


def survey(lake: Lake, stock: Pin, head: Pin) -> Stock:
    """The batches at `stock`, a landing commit, that the branch at `head` has not taken."""
    last = OPEN_BATCHES.read_stored(lake, head)
    if last is not None:
        try:
            return _survey_since(lake, stock, head, last)
        except UNUSABLE:
            # Damaged, a commit of it was collected, or landing was made anew.
            pass
    return survey_all(lake, stock, head)


def survey_all(lake: Lake, stock: Pin, head: Pin) -> Stock:
    """The same from every batch and every record: what a survey must agree with."""
    taken = {r.run_id: r for r in records.at(lake, head, stage=INGEST) if r.stands}
    return _sort_out(landing.batches(lake, stock), taken)


def _survey_since(lake: Lake, stock: Pin, head: Pin, last: State, *, keep: bool = False) -> Stock:
    """The survey since a summary; with `keep` one that a later survey may begin at."""
    base = Pin(head.repository, last["commit"])
    since = records.find_changed(lake, base, head, stage=INGEST)
    reopened = _find_reopened(lake, base, head, since.before)
    if keep and reopened:
        # Repetitions of a content that is open again wait too, and no record names them.
        return survey_all(lake, stock, head)
    moved, gone = _find_moved(lake, Pin(stock.repository, last["landing"]), stock)
    carried = last["open"]
    # What was open was not refused; of what may run again only its folder tells.
    known = {**dict.fromkeys(reopened.values()), **dict.fromkeys(carried, False), **moved}
    wanted = {f: refused for f, refused in known.items() if f not in gone and refused is not True}
    batches = landing.read_batches(lake, stock, wanted)
    if _lost(reopened, batches):
        # What repeats the content of a batch that is gone, only reading every seal tells.
        return survey_all(lake, stock, head)
    # What was open at the summary's commit and has no record of since was not taken.
    untaken = {record_table.path_of(INGEST, run) for run in carried.values()} - {*since.there}
    asked = {record_table.path_of(INGEST, run_of(batch)) for batch in batches} - untaken
    found = records.read(lake, head.repository, [(head.commit, path) for path in sorted(asked)])
    return _sort_out(batches, {r.run_id: r for r in found if r is not None and r.stands})


def _find_reopened(lake: Lake, base: Pin, head: Pin, paths: Sequence[str]) -> dict[str, str]:
    """Run id to the folder of its batch, of runs at `base` that may run again at `head`."""
    before = records.read(lake, base.repository, [(base.commit, path) for path in paths])
    after = records.read(lake, head.repository, [(head.commit, path) for path in paths])
    return {
        then.run_id: _folder_of(IngestDetails.of(then))
        for then, now in zip(before, after, strict=True)
        if then is not None and then.stands and (now is None or not now.stands)
    }


def _folder_of(took: IngestDetails) -> str:
    return f"landing/{took.dataset}/{took.batch}"


def _find_moved(lake: Lake, left: Pin, right: Pin) -> tuple[dict[str, bool | None], set[str]]:
    """Folders of batches whose seal or refusal changed, and of batches that were taken away.

    The former say whether the batch is refused, None where the change does not tell.
    """
    changes = lake.fs.diff(left.repository, left.commit, right.commit, prefix="landing/")
    kinds: dict[str, dict[str, str]] = {READY: {}, REFUSED: {}}
    for change in changes:
        folder, _, name = change.path.rpartition("/")
        if name in kinds:
            kinds[name][folder] = change.kind
    sealed, refused = kinds[READY], kinds[REFUSED]
    moved = {
        folder: refused[folder] != "removed" if folder in refused else _refused_before(kind)
        for folder, kind in {**dict.fromkeys(refused, ""), **sealed}.items()
        if kind != "removed"
    }
    return moved, {folder for folder, kind in sealed.items() if kind == "removed"}


def _refused_before(sealed: str) -> bool | None:
    """Of a refusal that did not change: a batch that was sealed since had none."""
    return False if sealed == "added" else None


def _lost(reopened: Mapping[str, str], batches: Iterable[Batch]) -> bool:
    """Whether a run may happen again whose batch is not there to be taken."""
    there = {run_of(batch) for batch in batches if batch.refused is None}
    return not reopened.keys() <= there


def _sort_out(batches: Iterable[Batch], taken: Mapping[str, Record]) -> Stock:
    first: dict[str, Batch] = {}
    repeated: list[tuple[Batch, str]] = []
    unfinished = []
    for batch in batches:
        if batch.refused is not None:
            continue
        run = run_of(batch)
        if run in taken:
            name = IngestDetails.of(taken[run]).batch
        else:
            name = first.setdefault(run, batch).id
            unfinished.append(batch)
        if name != batch.id:
            repeated.append((batch, name))
    return Stock(tuple(first.values()), tuple(repeated), tuple(unfinished))


def _derive_open(lake: Lake, head: Pin, last: State | None) -> State:
    stock = lake.pin(head.repository, LANDING)
    look = survey_all if last is None else partial(_survey_since, last=last, keep=True)
    found = look(lake, stock, head)
    unfinished = {batch.path: run_of(batch) for batch in found.unfinished}
    return {"commit": head.commit, "landing": stock.commit, "open": unfinished}


OPEN_BATCHES = Summary("batches", _derive_open)
