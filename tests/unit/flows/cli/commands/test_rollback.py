import pytest

from flows.cli.commands import rollback
from flows.release.rollback import EnvironmentRollback
from storage.registry import ReleaseRef

DONE = EnvironmentRollback(
    environment="production",
    left=ReleaseRef("flights", 8),
    release=ReleaseRef("flights", 7),
    index=12,
    data=None,
    already=False,
)


def test_a_rollback_of_the_model_alone_leaves_the_datasets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rollback._show(DONE)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"production index 12 names {DONE.release} instead of {DONE.left}",
        "the datasets stay as they are",
    ]
    assert rollback._document(DONE)["data"] is None


def test_a_proposal_has_changed_nothing_and_names_the_next_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dataclasses import replace

    rollback._show(replace(DONE, proposal=3))
    shown = capsys.readouterr()
    assert "headrace model approve 3 --environment production" in shown.err
    assert shown.out == f"production proposal 3 names {DONE.release}\n"
