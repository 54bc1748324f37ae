import pytest

from flows.cli.commands.data import tables
from flows.data.batches import BatchState
from flows.data.catalog import Table
from tests.unit.flows.cli.commands.conftest import Run


def test_a_quarantine_is_below_its_dataset() -> None:
    assert tables._indent("planes") == "planes"
    assert tables._indent("quarantine/planes") == "  quarantine/planes"


def test_a_table_that_nobody_is_known_to_have_written_has_dashes() -> None:
    assert tables._writer(Table("x", None, None, None, None, None)) == ("-", "-", None)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"state": "refused", "rule": "min", "column": "x", "problem": "p"}, "min on x: p"),
        ({"state": "refused", "rule": "readable", "problem": "p"}, "readable: p"),
        ({"state": "merged", "same_as": "b1"}, "the same files as b1"),
        ({"state": "merged"}, ""),
    ],
)
def test_a_batch_says_why(more: dict[str, str], why: str) -> None:
    batch = BatchState(dataset="d", id="b", files=1, size_bytes=1, run_id="", **more)  # type: ignore[arg-type]
    assert tables._why(batch) == why


def test_a_negative_number_of_rows_is_wrong_usage(run: Run) -> None:
    assert run("data", "show", "planes", "--rows", "-1").exit_code == 2
