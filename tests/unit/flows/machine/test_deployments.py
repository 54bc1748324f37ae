from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.machine.deployments import compute_digest, read_deployments

YAML = """
deployments:
  - {name: monthly, entrypoint: "stage/flow.py:ingest"}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "prefect.yaml").write_text(YAML)
    for path in ("stage/flow.py", "stage/pure.py", "blocks/lake.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["prefect.yaml", "stage/flow.py", "blocks/lake.py"])
def test_what_a_deployment_is_made_from_changes_the_digest(root: Path, changed: str) -> None:
    before = compute_digest(root)
    (root / changed).write_text((root / changed).read_text() + "# more\n")
    assert compute_digest(root) != before


def test_other_code_does_not_change_the_digest(root: Path) -> None:
    before = compute_digest(root)
    (root / "stage" / "pure.py").write_text("x = 2\n")
    assert compute_digest(root) == before


def test_bytes_moved_between_files_change_the_digest(root: Path) -> None:
    (root / "blocks" / "lake.py").write_text("ab")
    (root / "blocks" / "trust.py").write_text("c")
    before = compute_digest(root)
    (root / "blocks" / "lake.py").write_text("a")
    (root / "blocks" / "trust.py").write_text("bc")
    assert compute_digest(root) != before


def test_a_file_without_deployments_declares_none(tmp_path: Path) -> None:
    assert read_deployments(tmp_path) == []
    for text in ("", "deployments:\n", "deployments: []\n"):
        (tmp_path / "prefect.yaml").write_text(text)
        assert read_deployments(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["deployments: [{name: a}]", "deployments: [a]", "- a\n", "deployments: {a: ]"]
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(Misconfigured, match=r"prefect\.yaml") as caught:
        read_deployments(tmp_path)
    assert "\n" not in str(caught.value)
