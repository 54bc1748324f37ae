"""Pins, and the two repositories of a pipeline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import Refused
from storage.lake import LANDING, MAIN, Lake, Pin, releases, url

commits = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True), commits)
def test_a_pin_reads_back(repository: str, commit: str) -> None:
    pin = Pin(repository, commit)
    assert Pin.parse(str(pin)) == pin


@pytest.mark.parametrize("commit", ["", "main", "ab" * 31, "ab" * 33, "AB" * 32, "ab" * 32 + "\n"])
def test_only_a_full_commit_id_is_a_pin(commit: str) -> None:
    with pytest.raises(Refused, match="not a full commit id"):
        Pin("flights", commit)


def test_creating_a_pipeline_twice_changes_nothing(lake: Lake, repo: str) -> None:
    heads = {name: lake.fs.branches(name) for name in (repo, releases(repo))}
    assert all(set(found) == {MAIN, LANDING} for found in heads.values())
    lake.create_pipeline(repo)
    assert {name: lake.fs.branches(name) for name in heads} == heads
    assert lake.pin(repo) == Pin(repo, heads[repo][MAIN])


def test_an_address_names_repository_ref_and_path() -> None:
    assert url("flights", "main", "tables/a") == "s3://flights/main/tables/a"
