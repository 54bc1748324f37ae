"""Batches: how a feed hands over files, and how a stage finds the ones it has not seen.

A batch is a folder `landing/<dataset>/<batch id>/` on branch `landing`. Its files are written
put-if-absent; `_READY`, which lists names, sizes and SHA-256 digests, seals it last. A refused
batch gets `_REFUSED` with the reason, so that main stays untouched and nobody tries it again.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from storage.errors import Conflict, Damaged, NotFound, Refused
from storage.lake import LANDING, Lake, Pin
from storage.lake.parallel import read_each
from storage.runs.details import Details

READY = "_READY"
REFUSED = "_REFUSED"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class File:
    """One sealed file: size in bytes, SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IngestDetails(Details):
    """Stage ingest: the batch that was merged, and how many rows broke which rule."""

    dataset: str
    batch: str
    digest: str
    rules: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed batch at a landing commit. `digest` depends on its content, not on its id.

    `problem` says what is wrong with a seal that cannot be read; such a batch has no files.
    """

    dataset: str
    id: str
    pin: Pin
    files: tuple[File, ...]
    refused: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def path(self) -> str:
        """The batch's folder."""
        return f"landing/{self.dataset}/{self.id}"

    @property
    def digest(self) -> str:
        """SHA-256 over names, sizes and digests: the same files delivered twice are one batch."""
        body: list[Any] = [[f.name, f.size, f.sha256] for f in sorted(self.files, key=_name)]
        # A seal that cannot be read has no content to go by.
        body += [self.id] if self.problem else []
        return hashlib.sha256(json.dumps([self.dataset, body]).encode()).hexdigest()


def deliver(
    lake: Lake, repository: str, dataset: str, batch: str, files: Mapping[str, bytes]
) -> None:
    """Hand over a batch and seal it. A sealed batch is never changed.

    Raises: Conflict if a batch of that id was sealed before, Refused for names that are no
    plain file names.
    """
    for name in (dataset, batch, *files):
        if not _NAME.fullmatch(name):
            raise Refused(
                f"{name!r} is not a plain name.",
                remedy="Use letters, digits, dots, dashes and underscores, at most 128.",
            )
    folder = f"landing/{dataset}/{batch}"
    if lake.fs.exists(repository, LANDING, f"{folder}/{READY}"):
        raise Conflict(
            f"Batch {dataset}/{batch} was delivered before.",
            remedy="Deliver a correction under a batch id of its own.",
        )
    for name, data in files.items():
        _put_once(lake, repository, f"{folder}/{name}", data)
    seal = [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    body = json.dumps({"files": seal}, sort_keys=True).encode()
    lake.fs.put(repository, LANDING, f"{folder}/{READY}", body, if_absent=True)


def _put_once(lake: Lake, repository: str, path: str, data: bytes) -> None:
    """An interrupted delivery may be finished with the same bytes, never with others."""
    try:
        lake.fs.put(repository, LANDING, path, data, if_absent=True)
    except Conflict:
        if lake.fs.get(repository, LANDING, path) != data:
            raise Conflict(
                f"{path} was delivered before with other bytes.",
                remedy="Deliver the batch under an id of its own.",
            ) from None


def take_stock(lake: Lake, repository: str) -> Pin:
    """Commit what has landed, if anything has, and pin it."""
    if lake.fs.list_uncommitted(repository, LANDING):
        # Refused means that another ingest committed it in between.
        with suppress(Refused):
            lake.fs.commit(repository, LANDING, message="landed", metadata={})
    return lake.pin(repository, LANDING)


def batches(lake: Lake, pin: Pin, *, dataset: str = "") -> list[Batch]:
    """Every sealed batch at the pin, by dataset and id."""
    prefix = f"landing/{dataset}/" if dataset else "landing/"
    paths = {e.path for e in lake.fs.objects(pin.repository, pin.commit, prefix=prefix)}
    sealed = sorted(p.rsplit("/", 1)[0] for p in paths if p.endswith(f"/{READY}"))
    return read_each(
        lambda folder: _read_batch(lake, pin, folder, f"{folder}/{REFUSED}" in paths), sealed
    )


def read_batches(lake: Lake, pin: Pin, folders: Mapping[str, bool | None]) -> list[Batch]:
    """The sealed batches at the pin among these folders, by name.

    The folders say whether the batch was refused, None where that is not known.
    """

    def read_one(folder: str) -> Batch | None:
        refused = folders[folder]
        try:
            if refused is None:
                refused = lake.fs.exists(pin.repository, pin.commit, f"{folder}/{REFUSED}")
            return _read_batch(lake, pin, folder, refused)
        except NotFound:
            return None

    return [batch for batch in read_each(read_one, sorted(folders)) if batch is not None]


def read(lake: Lake, batch: Batch) -> dict[str, bytes]:
    """The batch's files. Raises Damaged if one is not what was sealed."""
    if batch.problem:
        raise Damaged(batch.problem, remedy="Deliver the batch again under a new id.")
    files = {}
    for file in batch.files:
        try:
            data = lake.fs.get(batch.pin.repository, batch.pin.commit, f"{batch.path}/{file.name}")
        except NotFound as error:
            raise Damaged(
                f"{batch.path}/{file.name} was sealed and is not there.",
                remedy="Deliver the batch again under a new id.",
            ) from error
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            raise Damaged(
                f"{batch.path}/{file.name} is not the file that was sealed: "
                f"{len(data)} bytes for {file.size}.",
                remedy="Deliver the batch again under a new id.",
            )
        files[file.name] = data
    return files


def refuse(lake: Lake, batch: Batch, reason: Mapping[str, Any]) -> None:
    """Mark the batch, so that no later run takes it; main is not touched."""
    body = json.dumps(dict(reason), sort_keys=True).encode()
    try:
        lake.fs.put(batch.pin.repository, LANDING, f"{batch.path}/{REFUSED}", body, if_absent=True)
    except Conflict:
        # Another run refused it first, for the same content and so for the same reason.
        return


def _read_batch(lake: Lake, pin: Pin, folder: str, refused: bool) -> Batch:
    _, dataset, batch = folder.split("/", 2)
    seal = lake.fs.get(pin.repository, pin.commit, f"{folder}/{READY}")
    reason = (
        json.loads(lake.fs.get(pin.repository, pin.commit, f"{folder}/{REFUSED}"))
        if refused
        else None
    )
    try:
        listed = json.loads(seal)["files"]
        files = tuple(File(str(f["name"]), int(f["size"]), str(f["sha256"])) for f in listed)
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{folder}/{READY} is no seal: {error!r}"
        return Batch(dataset, batch, pin, (), reason, problem)
    return Batch(dataset, batch, pin, files, reason)


def _name(file: File) -> str:
    return file.name
