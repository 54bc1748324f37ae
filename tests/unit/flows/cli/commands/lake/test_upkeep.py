import json
from pathlib import Path

import pytest

from flows.cli.commands.lake import upkeep
from flows.errors import Misconfigured
from storage.embedded.lake import EmbeddedLake
from tests.unit.flows.cli.commands.conftest import Run


def test_a_lake_is_checked_backed_up_restored_and_collected(run: Run, project: Path) -> None:
    assert upkeep.app.registered_commands
    lake = project / ".headrace" / "lake"
    EmbeddedLake(lake).close()
    assert json.loads(run("lake", "check", "--json").stdout)["sound"] is True
    made = json.loads(run("lake", "backup", "--json").stdout)
    assert Path(made["folder"]) == project / ".headrace" / "backups" / "lake"
    lake.rename(project / "moved")
    run("lake", "restore", made["folder"])
    assert "is sound" in run("lake", "check").stdout
    done = json.loads(run("lake", "gc", "--dry-run", "--json").stdout)
    assert (done["dry_run"], done["objects"]) == (True, 0)


def test_damage_is_exit_code_1_and_named(run: Run, project: Path) -> None:
    lake = project / ".headrace" / "lake"
    EmbeddedLake(lake).close()
    (lake / "graph.sqlite").write_bytes(b"not a database" * 1000)
    done = run("lake", "check", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["sound"] is False
    assert report["problems"]


def test_a_real_lakefs_is_left_to_its_own_tools(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://lake.example")
    with pytest.raises(Misconfigured, match=r"lake\.example"):
        run("lake", "check")
