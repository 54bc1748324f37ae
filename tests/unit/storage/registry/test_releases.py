"""Versions and indexes in a lake: numbered one after the other, each run once."""

from pathlib import Path

import pytest

from storage import registry
from storage.errors import NotFound
from storage.lake import Lake
from storage.registry import IndexDraft, ReleaseDraft, ReleaseRef, layout
from storage.registry.details import IndexDetails, RegisterDetails


def register(lake: Lake, repo: str, folder: Path, run: str) -> tuple[ReleaseRef, bool]:
    def sign(version: int) -> Path:
        (folder / "release.json").write_text(str(version))
        return folder

    draft = ReleaseDraft(sign, lambda ref: RegisterDetails(release=str(ref)))
    ref, outcome = registry.register(lake, repo, draft, run_id=run, inputs={})
    return ref, outcome.already


def publish(lake: Lake, repo: str, request: str) -> tuple[int, bool, list[bytes | None]]:
    seen: list[bytes | None] = []

    def sign(number: int, before: bytes | None) -> dict[str, bytes]:
        seen.append(before)
        return {f"{number}.json": f"index {number}".encode(), f"{number}.timestamp.json": b"t"}

    def describe(number: int) -> IndexDetails:
        return IndexDetails(
            environment="staging",
            index=number,
            kind="promotion",
            release="m/1",
            reason="",
            actor="",
        )

    draft = IndexDraft(sign, describe)
    number, outcome = registry.publish_index(lake, repo, "staging", draft, request_id=request)
    return number, outcome.already, seen


def test_each_run_registers_the_next_version_once(lake: Lake, repo: str, tmp_path: Path) -> None:
    assert register(lake, repo, tmp_path, "a" * 64) == (ReleaseRef(repo, 1), False)
    assert register(lake, repo, tmp_path, "b" * 64) == (ReleaseRef(repo, 2), False)
    assert register(lake, repo, tmp_path, "a" * 64) == (ReleaseRef(repo, 1), True)
    pin = registry.head(lake, repo)
    assert registry.models(lake, pin) == [repo]
    assert registry.versions(lake, pin, repo) == [1, 2]
    copy = registry.download(lake, pin, ReleaseRef(repo, 2).path, tmp_path / "copy")
    assert (copy / "release.json").read_text() == "2"


def test_what_a_run_registered_is_found_by_its_run(lake: Lake, repo: str, tmp_path: Path) -> None:
    ref, _ = register(lake, repo, tmp_path, "a" * 64)
    found = registry.find_registration(lake, repo, "a" * 64)
    assert found is not None
    assert RegisterDetails.of(found).release == str(ref)
    assert registry.find_registration(lake, repo, "b" * 64) is None


def test_an_index_follows_the_one_before_it_and_a_request_leads_to_one(
    lake: Lake, repo: str
) -> None:
    assert publish(lake, repo, "first") == (1, False, [None])
    assert publish(lake, repo, "second") == (2, False, [b"index 1"])
    assert publish(lake, repo, "first") == (1, True, [])
    pin = registry.head(lake, repo)
    assert registry.environments(lake, pin) == ["staging"]
    assert registry.index_numbers(lake, pin, "staging") == [1, 2]
    assert registry.index(lake, pin, "staging", 2) == b"index 2"
    assert lake.fs.get(pin.repository, pin.commit, layout.timestamp_path("staging", 2)) == b"t"


def test_what_is_not_there_is_not_found(lake: Lake, repo: str, tmp_path: Path) -> None:
    pin = registry.head(lake, repo)
    assert registry.versions(lake, pin, repo) == []
    with pytest.raises(NotFound):
        registry.index(lake, pin, "staging", 1)
    with pytest.raises(NotFound):
        registry.download(lake, pin, "models/x/1", tmp_path / "copy")
