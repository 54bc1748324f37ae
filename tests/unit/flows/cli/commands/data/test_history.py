import pytest

from flows.cli.commands.data import history
from flows.data.history import RowChange
from tests.unit.flows.cli.commands.conftest import Run


def test_a_key_needs_the_table_that_it_is_of(run: Run) -> None:
    done = run("data", "diff", "main", "mine", "--key", "id")
    assert done.exit_code == 2
    assert "--key needs a TABLE" in done.output


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (RowChange("planes", 1200, 0, 3), "planes +1,200 ~3"),
        (RowChange("planes", 0, 5), "planes -5"),
        (RowChange("planes", 0), "planes ±0"),
        (RowChange("planes", None), "planes written"),
    ],
)
def test_a_change_is_written_with_its_signs(change: RowChange, text: str) -> None:
    assert history._change(change) == text


def test_long_names_are_cut() -> None:
    assert history._short("x" * 60) == "x" * 60
    assert history._short("x" * 61) == "x" * 60 + "…"
