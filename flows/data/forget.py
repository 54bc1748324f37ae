"""Forgetting a person's rows, or rows past their retention: where they are, and the run itself."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flows.context import Context
from flows.errors import Misconfigured
from flows.pipeline import Pipeline
from flows.tables import quarantine_table
from storage import tables
from storage.errors import Damaged, NotFound, Refused
from storage.forgetting import forget
from storage.forgetting.forget import ForgetDetails, Survey
from storage.forgetting.selection import ByAge, ByKey, Selection
from storage.forgetting.traces import Search
from storage.lake import LANDING, MAIN, Lake, Pin, releases
from storage.lake.parallel import read_each
from storage.landing import take_stock
from storage.registry import layout
from storage.registry.details import RegisterDetails
from storage.runs import Outcome, record_table, records
from storage.waiting_batches import survey

# More values are not worth a search each.
_MOST_VALUES = 100
# What is searched as rows, not as text.
_ROWS = ("tables/", "landing/", "touched/", "forgotten/", f"{record_table.FOLDER}/")


@dataclass(frozen=True, slots=True)
class Found:
    """Where rows were found.

    rows: by table, as it stands. files, logs: objects of all versions that hold or describe them.
    batches: landed batches, as `landing/dataset/id`. branches: other branches that show them.
    releases: those whose data commit has them. mentions: other objects on main that contain one
    of the values as text. unreadable: objects that could not be searched.
    """

    rows: Mapping[str, int]
    files: int
    logs: int
    batches: tuple[str, ...]
    lingering: tuple[str, ...]
    branches: tuple[str, ...]
    releases: tuple[str, ...]
    mentions: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be forgotten any more, though a purge may wait."""
        return not self.rows and not self.batches and not self.lingering


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """What to forget and why. `said` goes on record: it must hold digests, never a value."""

    selection: Selection
    said: Mapping[str, Any]
    purge_after: datetime

    @property
    def id(self) -> str:
        """The same for the same rows."""
        return json.dumps(self.said, sort_keys=True)


def by_key(
    dataset: str,
    columns: Sequence[str],
    values: Sequence[Sequence[str]],
    *,
    secret: bytes,
    purge_after: datetime,
) -> ForgetRequest:
    """Forget the rows with these keys, of `dataset` and of every table with the same columns.

    On record is an HMAC-SHA256 of each key under `secret`: who has that can tell later whether a
    key was meant; nobody else can try keys out.
    """
    selection = ByKey(tuple(columns), tuple(tuple(row) for row in values))
    digests = sorted(key_digest(columns, row, secret) for row in values)
    said = {"kind": "key", "dataset": dataset, "columns": list(columns), "digests": digests}
    return ForgetRequest(selection, said, purge_after)


def expired(
    pipeline: Pipeline, name: str, *, now: datetime, purge_after: datetime
) -> ForgetRequest:
    """Forget the rows of a dataset, and of its quarantine, that are past their retention.

    Raises: Misconfigured for a dataset without a retention or without an event time.
    """
    dataset = pipeline.dataset(name)
    if dataset.retention is None or dataset.event_time is None:
        raise Misconfigured(
            f"{name} has no {'event time' if dataset.retention else 'retention'}: no row expires.",
            remedy="Set Dataset(event_time=..., retention=timedelta(...)) in the pipeline.",
        )
    before = (now - dataset.retention).replace(microsecond=0)
    both = (name, quarantine_table(name))
    selection = ByAge(name, dataset.event_time, before, both)
    said = {"kind": "age", "dataset": name, "columns": [dataset.event_time]}
    return ForgetRequest(selection, {**said, "before": before.isoformat()}, purge_after)


def key_digest(columns: Sequence[str], values: Sequence[str], secret: bytes) -> str:
    """HMAC-SHA256, in hex, over the canonical JSON of [[column, value], ...] by column."""
    pairs = sorted(zip(columns, values, strict=True))
    body = json.dumps(pairs, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(secret, body.encode(), hashlib.sha256).hexdigest()


def look(lake: Lake, pipeline: Pipeline, request: ForgetRequest, *, on: str = MAIN) -> Found:
    """Search every version of everything, and change nothing.

    Raises: NotFound if the dataset has no such table or column, Refused if a value cannot be one
    of its column.
    """
    head = lake.pin(pipeline.repository, on)
    _require_columns(lake, head, request)
    search = Search(lake, pipeline.repository, request.selection)
    survey = forget.survey(lake, pipeline.repository, search, on=on)
    return Found(
        rows=survey.rows,
        files=len({place.path for place in survey.traces.files}),
        logs=len({place.path for place in survey.traces.logs}),
        batches=survey.landed,
        lingering=survey.lingering,
        branches=_find_branches(lake, survey, on),
        releases=_find_releases(lake, pipeline, survey),
        mentions=_find_mentions(lake, head, request.selection),
        unreadable=tuple(sorted({place.path for place in survey.traces.unreadable})),
    )


def forget_rows(
    context: Context, request: ForgetRequest, found: Found, *, reason: str, on: str = MAIN
) -> Outcome:
    """Take the rows out everywhere at once.

    Raises: Refused if one waits in a batch for ingest, or if the reason names a value.
    """
    _refuse_named(request.selection, reason)
    _refuse_waiting(context.lake, context.pipeline, found, on)
    said = request.said
    details = ForgetDetails(
        kind=said["kind"],
        dataset=said["dataset"],
        columns=tuple(said["columns"]),
        digests=tuple(said["digests"]) if "digests" in said else None,
        before=said.get("before"),
        reason=reason,
        actor=context.actor,
        purge_after=request.purge_after,
        releases=found.releases,
        branches=found.branches,
    )
    return forget.forget(
        context.lake,
        context.repository,
        request.selection,
        request=request.id,
        details=details,
        on=on,
        by=context.origin,
    )


def parse_period(text: str) -> timedelta:
    """`30d`, `12h` or `0d`. Raises Misconfigured for anything else."""
    units = {"d": "days", "h": "hours"}
    if text[-1:] not in units or not text[:-1].isdecimal() or len(text) > 6:
        raise Misconfigured(
            f"{text!r} is no period.", remedy="Write 30d for days or 12h for hours."
        )
    return timedelta(**{units[text[-1]]: int(text[:-1])})


def _require_columns(lake: Lake, head: Pin, request: ForgetRequest) -> None:
    dataset, columns = str(request.said["dataset"]), request.said["columns"]
    schema = tables.scan(lake, head, dataset).collect_schema()
    if missing := [name for name in columns if name not in schema]:
        raise NotFound(
            f"{dataset} has no column {missing[0]}.",
            remedy=f"`headrace data show {dataset}` prints its columns.",
        )
    if isinstance(request.selection, ByKey):
        request.selection.parse_keys(schema)


def _find_branches(lake: Lake, survey: Survey, on: str) -> tuple[str, ...]:
    """People's branches whose newest state still has a file with such rows."""
    repository = survey.head.repository
    others = [name for name in lake.fs.branches(repository) if name not in (on, LANDING)]
    shown = {
        name: {e.path for e in lake.fs.objects(repository, name, prefix="tables/")}
        for name in others
        if not name.startswith("run-")
    }
    return tuple(sorted(name for name, paths in shown.items() if paths & survey.traces.paths))


def _find_releases(lake: Lake, pipeline: Pipeline, survey: Survey) -> tuple[str, ...]:
    """Releases registered with a data commit at which one of the files was read."""
    try:
        head = lake.pin(releases(pipeline.name))
    except NotFound:
        return ()
    found = []
    for record in records.at(lake, head, stage=layout.REGISTER):
        pins = [Pin.parse(text) for text in record.inputs.values()]
        if any(
            _holds_rows(lake, pin, survey) for pin in pins if pin.repository == pipeline.repository
        ):
            found.append(RegisterDetails.of(record).release)
    return tuple(sorted(found))


def _holds_rows(lake: Lake, pin: Pin, survey: Survey) -> bool:
    for name in tables.names(lake, pin.repository, pin.commit):
        if survey.traces.paths & _list_files(lake, pin, name):
            return True
    return False


def _list_files(lake: Lake, pin: Pin, table: str) -> set[str]:
    """Paths that were read as the table; all of its folder, once its log was purged."""
    root = tables.path_of(table)
    try:
        active = tables.snapshot(lake, pin.repository, pin.commit, table).files
    except Damaged:
        return {e.path for e in lake.fs.objects(pin.repository, pin.commit, prefix=f"{root}/")}
    return {f"{root}/{file}" for file in active}


def _find_mentions(lake: Lake, head: Pin, selection: Selection) -> tuple[str, ...]:
    if not isinstance(selection, ByKey):
        return ()
    texts = selection.telling[:_MOST_VALUES]
    wanted = {json.dumps(t, ensure_ascii=ascii).encode() for t in texts for ascii in (True, False)}
    entries = lake.fs.objects(head.repository, head.commit)
    paths = [e.path for e in entries if not e.path.startswith(_ROWS)]

    def contains(path: str) -> bool:
        data = lake.fs.get(head.repository, head.commit, path)
        return any(text in data for text in wanted)

    found = [p for p, has in zip(paths, read_each(contains, paths), strict=True) if has]
    # The table's files are compressed: what its records say is looked for as rows.
    if record_table.contains_any(lake, head, (text.decode() for text in wanted)):
        found.append(record_table.FOLDER)
    return tuple(found)


def _refuse_named(selection: Selection, reason: str) -> None:
    """The reason stands in the history for good, where no purge reaches it."""
    if selection.is_stated(reason):
        raise Refused(
            "The reason names a value that is to be forgotten, and would keep it on record.",
            remedy="Say it without: name the request, such as a ticket's number.",
        )


def _refuse_waiting(lake: Lake, pipeline: Pipeline, found: Found, on: str) -> None:
    """A batch that goes before it landed would take everybody's rows with it."""
    stock = take_stock(lake, pipeline.repository)
    left = survey(lake, stock, lake.pin(pipeline.repository, on)).unfinished
    if first := sorted({batch.path for batch in left} & set(found.batches)):
        raise Refused(
            f"{first[0]} has such rows and waits for ingest.",
            remedy="Let ingest run (`prefect deployment run ingest/ingest`), then forget.",
        )
