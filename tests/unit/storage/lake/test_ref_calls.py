"""Branches, commits, merges and tags through the client."""

import pytest

from storage.errors import Conflict, Forbidden, NotFound, Refused
from storage.lake import MAIN, Lake


def commit(lake: Lake, repo: str, branch: str, path: str, data: bytes = b"x") -> str:
    lake.fs.put(repo, branch, path, data)
    return lake.fs.commit(repo, branch, message=path, metadata={"path": path})


def test_a_branch_leaves_from_its_source_and_is_made_once(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "mine", source=MAIN)
    assert lake.fs.head(repo, "mine") == lake.fs.head(repo, MAIN)
    with pytest.raises(Conflict):
        lake.fs.create_branch(repo, "mine", source=MAIN)
    assert lake.fs.delete_branch(repo, "mine")
    assert not lake.fs.delete_branch(repo, "mine")


def test_main_takes_no_direct_write(lake: Lake, repo: str) -> None:
    with pytest.raises(Forbidden) as caught:
        lake.fs.put(repo, MAIN, "a", b"x")
    assert caught.value.code == "lake.branch_protected"


def test_what_is_staged_is_listed_until_it_is_committed(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "mine", source=MAIN)
    lake.fs.put(repo, "mine", "a", b"x")
    assert [(c.path, c.kind) for c in lake.fs.list_uncommitted(repo, "mine")] == [("a", "added")]
    made = lake.fs.commit(repo, "mine", message="a", metadata={"k": "v"})
    assert lake.fs.list_uncommitted(repo, "mine") == []
    found = lake.fs.resolve(repo, "mine")
    assert (found.id, found.message, found.metadata["k"]) == (made, "a", "v")
    with pytest.raises(Refused):
        lake.fs.commit(repo, "mine", message="nothing", metadata={})


def test_a_merge_brings_the_changes_and_a_path_changed_on_both_sides_conflicts(
    lake: Lake, repo: str
) -> None:
    base = lake.fs.head(repo, MAIN)
    for name in ("mine", "theirs"):
        lake.fs.create_branch(repo, name, source=base)
        commit(lake, repo, name, "a", name.encode())
    assert lake.fs.merge_base(repo, "mine", "theirs") == base
    merged = lake.fs.merge(repo, "mine", into=MAIN, message="m", metadata={})
    assert lake.fs.get(repo, merged, "a") == b"mine"
    with pytest.raises(Conflict):
        lake.fs.merge(repo, "theirs", into=MAIN, message="m", metadata={})
    assert lake.fs.head(repo, MAIN) == merged


def test_a_diff_says_what_became_of_each_path(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "mine", source=MAIN)
    commit(lake, repo, "mine", "kept/a")
    first = commit(lake, repo, "mine", "kept/b")
    lake.fs.delete(repo, "mine", "kept/a")
    lake.fs.put(repo, "mine", "kept/b", b"other")
    lake.fs.put(repo, "mine", "kept/c", b"x")
    second = commit(lake, repo, "mine", "elsewhere")
    found = lake.fs.diff(repo, first, second, prefix="kept/")
    assert {c.path: c.kind for c in found} == {
        "kept/a": "removed",
        "kept/b": "changed",
        "kept/c": "added",
    }


def test_a_log_is_newest_first_and_no_longer_than_asked_for(lake: Lake, repo: str) -> None:
    lake.fs.create_branch(repo, "mine", source=MAIN)
    made = [commit(lake, repo, "mine", name) for name in "abc"]
    found = lake.fs.log(repo, "mine", limit=2)
    assert [one.id for one in found] == [made[2], made[1]]


def test_a_tag_names_a_commit_and_is_made_once(lake: Lake, repo: str) -> None:
    head = lake.fs.head(repo, MAIN)
    lake.fs.tag(repo, "v1", ref=MAIN)
    assert lake.fs.tags(repo) == {"v1": head}
    with pytest.raises(Conflict):
        lake.fs.tag(repo, "v1", ref=MAIN)
    assert lake.fs.delete_tag(repo, "v1")
    assert not lake.fs.delete_tag(repo, "v1")


def test_a_ref_that_is_not_there_is_not_found(lake: Lake, repo: str) -> None:
    with pytest.raises(NotFound):
        lake.fs.resolve(repo, "nowhere")
