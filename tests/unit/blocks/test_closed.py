import pytest
from pydantic import ValidationError

from blocks.closed import ClosedBlock


class Room(ClosedBlock):
    """A block with one field."""

    doors: int = 1


def test_a_closed_block_takes_its_fields_and_no_other() -> None:
    assert Room(doors=2).doors == 2
    with pytest.raises(ValidationError, match="windows") as caught:
        Room(doors=2, windows=1)  # type: ignore[call-arg]
    assert [one["type"] for one in caught.value.errors()] == ["extra_forbidden"]


def test_a_misspelt_field_is_not_a_default() -> None:
    with pytest.raises(ValidationError, match="door"):
        Room(door=3)  # type: ignore[call-arg]


def test_its_page_calls_nothing_outside_for_a_logo() -> None:
    assert Room._logo_url is None
    assert str(Room._documentation_url).startswith("https://docs.prefect.io/")
