import pytest

from flows.cli.commands.data import gc
from flows.errors import Misconfigured
from tests.unit.flows.cli.commands.conftest import Run


def test_it_lists_only_and_says_where_bytes_are_removed(run: Run) -> None:
    assert gc.app.registered_commands
    with pytest.raises(Misconfigured, match="--dry-run") as caught:
        run("data", "gc")
    assert "headrace lake gc" in caught.value.remedy


def test_a_negative_age_is_wrong_usage(run: Run) -> None:
    assert run("data", "gc", "--dry-run", "--older-than", "-1").exit_code == 2
