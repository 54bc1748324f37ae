"""The offline verifier as a function; `test_verify_command.py` runs it as a program."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from security.__main__ import main


def test_a_verified_release_is_zero_and_a_refused_one_is_one(
    home: Any, released: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["verify", str(released.folder), "--root", str(home.folder / "root.json")]
    given += ["--policy", str(home.folder)]
    assert main(given) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("verified: delays version 1")
    assert main([*given, "--name", "another", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["code"] == "trust.wrong_release"
    assert said.err.startswith("refused: the release is delays version 1")


def test_a_proof_that_is_no_proof_is_refused(
    home: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proof").write_bytes(b"{}")
    given = ["audit-proof", str(tmp_path / "proof"), "--root", str(home.folder / "root.json")]
    assert main(given) == 1
    assert "refused: proof lacks" in capsys.readouterr().err
