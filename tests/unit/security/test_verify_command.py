import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def run(*arguments: object, optimised: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-O"] if optimised else []), "-m", "security", "verify"]
    given = [*command, *map(str, arguments)]
    return subprocess.run(
        given, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."}
    )


@pytest.fixture
def copied(home: Any, released: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A release folder that carries its policy, and the root pinned beside it."""
    for name in ("trust.dsse.json", "rules.dsse.json"):
        shutil.copy(home.folder / name, released.folder / name)
    shutil.copy(home.folder / "root.json", tmp_path / "root.json")
    return SimpleNamespace(
        folder=released.folder, root=tmp_path / "root.json", release=released.release
    )


def test_a_copied_folder_verifies_with_the_root_alone(copied: SimpleNamespace) -> None:
    done = run(copied.folder, "--root", copied.root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "1. files: exactly the files of a release"
    assert lines[-1] == f"verified: delays version 1, release {copied.release.digest}"
    assert lines[8].startswith("9. payload: 3 files")
    told = " ".join(lines)
    for said in (
        "delays 1 was trained from flights flights@abababababab, weather flights@cdcdcdcdcdcd.",
        "Its code is commit 0123456789ab, all of it committed",
        "It passed 2 gates: log_loss = 0.41, required <= 0.45; roc_auc = 0.73, required >= 0.7.",
        "Released 2013-07-01T00:00:00Z by ana: monthly retraining.",
        "not that it is the one to run",
    ):
        assert said in told


def test_the_story_names_who_signed_by_the_keys_that_the_policy_enrols(
    home: Any, copied: SimpleNamespace
) -> None:
    told = run(copied.folder, "--root", copied.root).stdout
    for role in ("trainer", "gatekeeper", "releaser"):
        assert f"{role} {home.signers[role].public.key_id[:12]}" in told


def test_json_is_for_programs(home: Any, released: SimpleNamespace) -> None:
    done = run(
        released.folder, "--root", home.folder / "root.json", "--policy", home.folder, "--json"
    )
    told = json.loads(done.stdout)
    assert (told["verified"], told["model"], told["version"]) == (True, "delays", 1)
    assert told["digest"] == released.release.digest
    assert told["signedBy"]["releaser"] == [home.signers["releaser"].public.key_id]
    assert told["data"]["weather"]["commit"] == "cd" * 32
    assert [step["number"] for step in told["steps"]] == list(range(1, 10))
    (released.folder / "card.md").write_text("another")
    refused = run(
        released.folder, "--root", home.folder / "root.json", "--policy", home.folder, "--json"
    )
    assert refused.returncode == 1
    assert json.loads(refused.stdout) == {
        "verified": False,
        "problem": "the model card is not the signed one",
        "code": "trust.digest_mismatch",
    }


@pytest.mark.parametrize("optimised", [False, True])
def test_a_tampered_folder_is_refused_also_without_assertions(
    copied: SimpleNamespace, optimised: bool
) -> None:
    path = copied.folder / "payload" / "model.onnx.sealed"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = run(copied.folder, "--root", copied.root, optimised=optimised)
    assert done.returncode == 1
    assert "refused: model.onnx does not have the signed digest" in done.stderr
    assert "verified" not in done.stdout


def test_another_root_is_refused_with_a_hint(copied: SimpleNamespace, tmp_path: Path) -> None:
    from security.policy.key_homes import init_keys

    init_keys(tmp_path / "other")
    done = run(copied.folder, "--root", tmp_path / "other" / "root.json")
    assert done.returncode == 1
    assert "not signed by the pinned root" in done.stderr
    assert "hint: check that the root file" in done.stderr


def test_the_wrong_version_is_refused_and_wrong_usage_is_two(copied: SimpleNamespace) -> None:
    assert run(copied.folder, "--root", copied.root, "--version", 2).returncode == 1
    assert run(copied.folder).returncode == 2


def test_verifying_needs_neither_model_libraries_nor_the_rest_of_the_house() -> None:
    code = (
        "import sys, security.__main__, security.policy.key_homes, security.release.signing,"
        " security.release.index, security.audit.log\n"
        "banned = {'onnx', 'onnxruntime', 'skops', 'sklearn', 'numpy', 'prefect', 'storage',"
        " 'flows', 'blocks', 'pydantic', 'pickle'}\n"
        "print(sorted(banned & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
