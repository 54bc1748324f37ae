import pytest

from flows.cli.commands import audit
from security.audit.log import Checkpoint
from tests.unit.flows.cli.commands.conftest import Run


@pytest.mark.parametrize(
    ("kind", "wanted", "fits"),
    [
        ("index.promoted", "", True),
        ("index.promoted", "index", True),
        ("index.promoted", "index.promoted", True),
        ("index.promoted", "ind", False),
        ("refused", "index", False),
    ],
)
def test_a_kind_is_meant_whole_or_with_all_below_it(kind: str, wanted: str, fits: bool) -> None:
    class Entry:
        def __init__(self) -> None:
            self.kind = kind

    assert audit._is_of(Entry(), wanted) is fits  # type: ignore[arg-type]


def test_a_checkpoint_is_described_by_its_time_and_size() -> None:
    made = Checkpoint(size=3, root="0" * 64, created="2026-01-01T00:00:00Z")
    assert "2026-01-01" in audit._describe_checkpoint(made)
    assert "3 entries" in audit._describe_checkpoint(made)
    assert audit._describe_checkpoint(None) == "no checkpoint yet"


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01"])
def test_a_start_that_is_no_date_is_wrong_usage(run: Run, since: str) -> None:
    assert run("audit", "log", "--since", since).exit_code == 2
