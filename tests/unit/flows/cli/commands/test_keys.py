from pathlib import Path

import pytest
import typer

from flows.cli.commands import keys
from flows.errors import Misconfigured
from security.errors import SecurityError
from tests.unit.flows.cli.commands.conftest import Run


def test_a_key_is_made_in_a_folder_of_its_role_and_only_its_public_half_is_printed(
    run: Run, tmp_path: Path
) -> None:
    done = run("keys", "make", "releaser", str(tmp_path / "new"))
    private = [p for p in (tmp_path / "new" / "releaser").iterdir() if p.is_file()]
    assert private
    assert all(p.stat().st_mode & 0o077 == 0 for p in private if "PRIVATE" in p.read_text())
    assert "PRIVATE" not in done.stdout
    assert done.stdout.strip()


def test_without_keys_nothing_is_exported(run: Run) -> None:
    with pytest.raises((SecurityError, Misconfigured)):
        run("keys", "export-public", "-")


def test_every_command_of_the_group_is_there() -> None:
    group = typer.main.get_command(keys.app)
    names = "init list rotate revoke enrol make pin export-public"
    assert list(group.commands) == names.split()  # type: ignore[attr-defined]
