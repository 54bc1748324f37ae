import json

import pytest

from flows.cli.commands.model import recipients
from flows.release.recipients import Reader
from tests.unit.flows.cli.commands.conftest import Run


def test_a_reader_whom_the_policy_does_not_name_has_a_dash(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = [Reader("id1", "serving"), Reader("id2", "")]
    recipients._show(listed, as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["recipient", "key"],
        ["serving", "id1"],
        ["-", "id2"],
    ]
    recipients._show(listed, as_json=True)
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["id1", "id2"]


def test_a_removal_needs_a_reason(run: Run) -> None:
    assert run("model", "recipients", "remove", "flights/7", "serving").exit_code == 2
