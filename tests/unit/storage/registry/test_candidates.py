"""Candidates and verdicts in a lake: each is committed once, and the first stays."""

from pathlib import Path

from storage.lake import Lake, releases
from storage.registry import candidates, head, layout
from storage.runs.details import Details


def put(lake: Lake, repo: str, folder: Path, said: str) -> bool:
    details = Details(later={"said": said})
    return candidates.put(lake, repo, "c1", folder, details=details, inputs={}).already


def test_a_candidate_is_put_forward_once_with_what_was_said_of_it(
    lake: Lake, repo: str, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "payload").write_bytes(b"sealed")
    assert not put(lake, repo, tmp_path, "first")
    assert put(lake, repo, tmp_path, "second")
    pin = head(lake, repo)
    path = f"{layout.candidate_folder('c1')}/deep/payload"
    assert lake.fs.get(releases(repo), pin.commit, path) == b"sealed"
    found = candidates.candidate_record(lake, pin, "c1")
    assert found is not None
    assert found.details == {"said": "first"}


def test_a_verdict_lies_beside_its_candidate_and_is_found_by_it(
    lake: Lake, repo: str, tmp_path: Path
) -> None:
    assert candidates.verdict_record(lake, head(lake, repo), "c1") is None
    files, details = {"gates.json": b"{}"}, Details(later={"passed": True})
    candidates.put_verdict(lake, repo, "c1", files, details=details, inputs={})
    pin = head(lake, repo)
    found = candidates.verdict_record(lake, pin, "c1")
    assert found is not None
    assert (found.run_id, found.details) == (layout.gate_run("c1"), {"passed": True})
    assert lake.fs.get(releases(repo), pin.commit, "candidates/c1/gates.json") == b"{}"
