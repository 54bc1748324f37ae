"""Objects through the client: written once, read at a ref, listed in order."""

from pathlib import Path

import pytest

from storage.errors import Conflict, NotFound
from storage.lake import LANDING, Lake


def test_an_object_comes_back_whole_and_put_if_absent_keeps_the_first(
    lake: Lake, repo: str
) -> None:
    lake.fs.put(repo, LANDING, "a/b", b"first", if_absent=True)
    with pytest.raises(Conflict):
        lake.fs.put(repo, LANDING, "a/b", b"second", if_absent=True)
    assert lake.fs.get(repo, LANDING, "a/b") == b"first"
    assert lake.fs.exists(repo, LANDING, "a/b")
    assert not lake.fs.exists(repo, LANDING, "a/c")


def test_a_download_writes_a_new_file_and_never_over_one(
    lake: Lake, repo: str, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 8192
    lake.fs.put(repo, LANDING, "large", data)
    lake.fs.download(repo, LANDING, "large", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    with pytest.raises(FileExistsError):
        lake.fs.download(repo, LANDING, "large", tmp_path / "file")


def test_objects_are_listed_in_order_with_their_sizes_and_folders_by_name(
    lake: Lake, repo: str
) -> None:
    for path, data in {"x/b/1": b"1", "x/a/1": b"22", "x/top": b"", "y": b""}.items():
        lake.fs.put(repo, LANDING, path, data)
    found = lake.fs.objects(repo, LANDING, prefix="x/")
    assert [(one.path, one.size) for one in found] == [("x/a/1", 2), ("x/b/1", 1), ("x/top", 0)]
    assert lake.fs.folders(repo, LANDING, prefix="x/") == ["a", "b"]


def test_a_copy_shares_its_bytes_with_what_was_there(lake: Lake, repo: str) -> None:
    lake.fs.put(repo, LANDING, "a", b"x")
    before = lake.fs.commit(repo, LANDING, message="a", metadata={})
    lake.fs.delete(repo, LANDING, "a")
    lake.fs.delete(repo, LANDING, "a")
    assert not lake.fs.exists(repo, LANDING, "a")
    lake.fs.copy(repo, "a", source_ref=before, branch=LANDING)
    assert lake.fs.address(repo, LANDING, "a") == lake.fs.address(repo, before, "a")
    assert lake.fs.is_readable(repo, LANDING, "a")
    assert not lake.fs.is_readable(repo, LANDING, "b")


def test_what_is_not_there_is_not_found(lake: Lake, repo: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        lake.fs.get(repo, LANDING, "a")
    with pytest.raises(NotFound):
        lake.fs.address(repo, LANDING, "a")
