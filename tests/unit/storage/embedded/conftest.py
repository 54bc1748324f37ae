"""A lake in this process with one repository, and the few verbs that tests of its keeping need."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from storage.embedded.graph import branches, heads, objects, repositories
from storage.embedded.graph.heads import Message
from storage.embedded.graph.paging import KeyWindow
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.lake import EmbeddedLake

SAID = Message("me", "m")

# A busy machine is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@dataclass(frozen=True)
class Kept:
    """One opened lake."""

    lake: EmbeddedLake

    @property
    def root(self) -> Path:
        return self.lake.root

    def made(self, content: bytes) -> ObjectEntry:
        incoming = self.lake.blobs.receive()
        incoming.write(content)
        written = self.lake.blobs.keep(incoming)
        return make_entry(
            digest=written.digest,
            etag=written.md5,
            size=written.size,
            content_type="t",
            modified_s=0,
            metadata={},
        )

    def put(self, key: str, content: bytes = b"x", branch: str = "main") -> ObjectEntry:
        value = self.made(content)
        self.lake.write(lambda view: objects.put_object(view, "repo", branch, key, value))
        return value

    def delete(self, key: str, branch: str = "main") -> None:
        self.lake.write(lambda view: objects.delete_objects(view, "repo", branch, [key]))

    def commit(self, branch: str = "main") -> str:
        return heads.commit(self.lake, "repo", branch, SAID)[0]

    def branch(self, name: str, source: str = "main") -> None:
        self.lake.write(
            lambda view: branches.create_branch(
                view, "repo", name, source, hidden=False, force=False
            )
        )

    def drop_branch(self, name: str) -> None:
        self.lake.write(lambda view: branches.delete_branch(view, "repo", name, force=False))

    def content(self, key: str, ref: str = "main") -> bytes:
        found = self.lake.read(lambda view: objects.find_object(view, "repo", ref, key))
        return b"".join(self.lake.blobs.read(found.digest, found.size, 0, found.size))

    def keys(self, ref: str = "main") -> list[str]:
        found = self.lake.read(lambda view: objects.list_objects(view, "repo", ref, KeyWindow()))
        return [item[0] for item in found.results]

    def blob(self, key: str, ref: str = "main") -> Path:
        found = self.lake.read(lambda view: objects.find_object(view, "repo", ref, key))
        return self.lake.blobs.path(found.digest)


@pytest.fixture
def opened(tmp_path) -> Iterator[Callable[[Path], Kept]]:
    lakes: list[EmbeddedLake] = []

    def open_at(root: Path) -> Kept:
        lakes.append(EmbeddedLake(root))
        return Kept(lakes[-1])

    yield open_at
    for lake in lakes:
        lake.close()


@pytest.fixture
def kept(tmp_path, opened) -> Kept:
    made = opened(tmp_path / "lake")
    made.lake.write(
        lambda view: repositories.create_repository(
            view.rows, "repo", "local://repo", "main", read_only=False
        )
    )
    return made
