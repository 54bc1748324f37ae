import pytest
import typer

from flows.cli.options import parse_numbers


def test_each_text_is_a_name_and_a_number() -> None:
    assert parse_numbers(["production=2"], "--releasers") == {"production": 2}
    assert parse_numbers(None, "--releasers") == {}
    assert parse_numbers(["x=1", "x=3"], "--releasers") == {"x": 3}


@pytest.mark.parametrize("text", ["", "x", "x=", "=1", "x=one", "x=-1", "x=1.5", "a=b=10", "x=0"])
def test_anything_else_is_wrong_usage_of_that_option(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_numbers([text], "--releasers")
    assert caught.value.param_hint == "--releasers"


def test_the_least_number_is_the_callers() -> None:
    assert parse_numbers(["x=0"], "--minimum-index", least=0) == {"x": 0}
