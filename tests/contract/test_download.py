"""A folder of the releases repository on its way to a private copy."""

from pathlib import Path

import pytest

from storage import registry
from storage.errors import Damaged, NotFound
from storage.lake import Lake, Pin
from storage.registry import releases


@pytest.fixture
def pin(lake: Lake, repo: str) -> Pin:
    lake.fs.create_branch(repo, "files", source="main")
    for path, data in {"m/1/a": b"a" * 3_000_000, "m/1/payload/b": b"", "m/10/c": b"other"}.items():
        lake.fs.put(repo, "files", path, data)
    return Pin(repo, lake.fs.commit(repo, "files", message="x", metadata={}))


def test_every_file_comes_whole_and_no_neighbour(lake: Lake, pin: Pin, tmp_path: Path) -> None:
    folder = registry.download(lake, pin, "m/1", tmp_path / "copy")
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert found.keys() == {"a", "payload/b"}
    assert found["a"].read_bytes() == b"a" * 3_000_000
    assert found["payload/b"].read_bytes() == b""


@pytest.mark.parametrize(("limit", "most"), [("MAX_BYTES", 2_999_999), ("MAX_FILES", 1)])
def test_more_than_a_release_has_is_refused_before_the_first_byte(
    lake: Lake,
    pin: Pin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    most: int,
) -> None:
    monkeypatch.setattr(releases, limit, most)
    with pytest.raises(Damaged, match="2 files of 3,000,000 bytes"):
        registry.download(lake, pin, "m/1", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_nothing_is_not_found(lake: Lake, pin: Pin, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        registry.download(lake, pin, "m/2", tmp_path / "copy")
