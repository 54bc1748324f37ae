"""The model registry: releases by version, and the indexes that say what each environment runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.errors import Damaged, NotFound
from storage.lake import MAIN, Lake, Pin, releases
from storage.registry import layout
from storage.registry.details import IndexDetails, RegisterDetails
from storage.registry.layout import ReleaseRef
from storage.runs import Job, Outcome, Provenance, Run, commit_once, records
from storage.runs.records import Record

# What a policy allows by itself, and room for the documents beside the payload.
MAX_BYTES = (8 << 30) + (64 << 20)
MAX_FILES = 1000


@dataclass(frozen=True, slots=True)
class ReleaseDraft:
    """How a release is made once its number is known, inside of the replay.

    `sign` gets the number and returns the finished folder, `describe` says what the record holds,
    `also` writes what belongs into the same commit.
    """

    sign: Callable[[int], Path]
    describe: Callable[[ReleaseRef], RegisterDetails]
    also: Callable[[Run, ReleaseRef, Path], None] | None = None


@dataclass(frozen=True, slots=True)
class IndexDraft:
    """How an index is made once its number is known, inside of the replay.

    `sign` gets the number and the envelope of the index before it, and returns file names and
    bytes, `<n>.json` among them; `describe` and `also` are as for a release.
    """

    sign: Callable[[int, bytes | None], Mapping[str, bytes]]
    describe: Callable[[int], IndexDetails]
    also: Callable[[Run], None] | None = None


def versions(lake: Lake, pin: Pin, model: str) -> list[int]:
    """Registered versions at the pin, oldest first."""
    folder = layout.model_folder(model)
    found = lake.fs.folders(pin.repository, pin.commit, prefix=folder)
    return sorted(int(name) for name in found if name.isdecimal() and name[0] != "0")


def models(lake: Lake, pin: Pin) -> list[str]:
    """Names of the models that have a release at the pin."""
    return lake.fs.folders(pin.repository, pin.commit, prefix=layout.MODELS)


def environments(lake: Lake, pin: Pin) -> list[str]:
    """Names of the environments that have an index or a proposal at the pin."""
    return lake.fs.folders(pin.repository, pin.commit, prefix=layout.ENVIRONMENTS)


def register(
    lake: Lake,
    pipeline: str,
    draft: ReleaseDraft,
    *,
    run_id: str,
    inputs: Mapping[str, Pin],
    by: Provenance | None = None,
) -> tuple[ReleaseRef, Outcome]:
    """Register the next version, once per run id.

    Two runs that take the same number collide on the path, and the loser signs the next one.
    Raises: as `commit_once`, and what the draft raises.
    """

    def body(run: Run) -> None:
        taken = versions(lake, run.base, pipeline)
        ref = ReleaseRef(pipeline, (taken[-1] if taken else 0) + 1)
        folder = draft.sign(ref.version)
        upload(run, ref.path, folder)
        if draft.also is not None:
            draft.also(run, ref, folder)
        run.describe(draft.describe(ref))

    outcome = commit_once(
        lake, Job(releases(pipeline), layout.REGISTER, run_id, inputs=inputs, by=by), body
    )
    return ReleaseRef.parse(RegisterDetails.of(outcome.record).release), outcome


def find_registration(lake: Lake, pipeline: str, run_id: str) -> Record | None:
    """The registration that a run made before, with what it said about its release."""
    pin = head(lake, pipeline)
    return records.find(lake, pin.repository, pin.commit, stage=layout.REGISTER, run=run_id)


def publish_index(
    lake: Lake,
    pipeline: str,
    environment: str,
    draft: IndexDraft,
    *,
    request_id: str,
    by: Provenance | None = None,
) -> tuple[int, Outcome]:
    """Write the environment's next index, once per request id.

    Of two releasers at once the loser sees the winner's index in its replay.
    Raises: as `commit_once`, and what the draft raises.
    """

    def body(run: Run) -> None:
        numbers = index_numbers(lake, run.base, environment)
        last = numbers[-1] if numbers else 0
        before = index(lake, run.base, environment, last) if last else None
        for name, data in draft.sign(last + 1, before).items():
            run.put(f"{layout.index_folder(environment)}{name}", data)
        if draft.also is not None:
            draft.also(run)
        run.describe(draft.describe(last + 1))

    outcome = commit_once(
        lake,
        Job(releases(pipeline), layout.SERVE, layout.index_run(environment, request_id), by=by),
        body,
    )
    return IndexDetails.of(outcome.record).index, outcome


def index_numbers(lake: Lake, pin: Pin, environment: str) -> list[int]:
    """Numbers of the environment's indexes at the pin, oldest first."""
    folder = layout.index_folder(environment)
    listed = lake.fs.objects(pin.repository, pin.commit, prefix=folder)
    return layout.parse_numbers(folder, (entry.path for entry in listed))


def index(lake: Lake, pin: Pin, environment: str, number: int) -> bytes:
    """The signed envelope of one index. Raises NotFound."""
    return lake.fs.get(pin.repository, pin.commit, layout.index_path(environment, number))


def upload(run: Run, path: str, folder: Path) -> None:
    """Put every file below the local folder under `path` on the run's branch."""
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        run.put(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def download(lake: Lake, pin: Pin, path: str, into: Path) -> Path:
    """Copy everything below `path` at the pin into a local folder, in bounded memory.

    Raises: NotFound if there is nothing, Damaged before the first byte for names or an amount
    that no release has.
    """
    entries = lake.fs.objects(pin.repository, pin.commit, prefix=f"{path}/")
    if not entries:
        raise NotFound(
            f"There is nothing at {pin.repository}/{path}.",
            remedy="`headrace model list` prints the releases there are.",
        )
    size = sum(entry.size for entry in entries)
    if len(entries) > MAX_FILES or size > MAX_BYTES:
        raise Damaged(
            f"{pin.repository}/{path} holds {len(entries):,} files of {size:,} bytes in all; a "
            f"release has at most {MAX_FILES:,} of {MAX_BYTES:,}."
        )
    targets = {entry.path: into / entry.path[len(path) + 1 :] for entry in entries}
    for name, target in targets.items():
        if not target.resolve().is_relative_to(into.resolve()):
            raise Damaged(f"{name!r} is not a name below {path}.")
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        lake.fs.download(pin.repository, pin.commit, name, target)
    return into


def head(lake: Lake, pipeline: str) -> Pin:
    """The releases repository as it stands now."""
    return lake.pin(releases(pipeline), MAIN)
