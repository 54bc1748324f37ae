import inspect

import pytest

from flows import errors
from flows.errors import ContractBroken, EmptyWindow, Misconfigured, StageError

KINDS = {
    StageError: "stage.error",
    EmptyWindow: "stage.empty_window",
    Misconfigured: "setup.misconfigured",
}


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_an_error_has_the_code_of_its_kind_or_its_own(kind: type[StageError], code: str) -> None:
    error = kind("it broke", remedy="mend it")
    assert (str(error), error.remedy, error.code) == ("it broke", "mend it", code)
    assert kind("it broke", code="area.what").code == "area.what"
    assert kind("it broke").remedy == ""


def test_a_broken_contract_has_the_code_of_its_rule() -> None:
    error = ContractBroken("no such column", rule="column_missing", column="seats", remedy="add it")
    assert (error.code, error.rule, error.column) == (
        "contract.column_missing",
        "column_missing",
        "seats",
    )
    assert ContractBroken("x", rule="a", code="contract.b").code == "contract.b"
    assert isinstance(error, StageError)


def test_every_stage_error_is_caught_as_one() -> None:
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    assert {*KINDS, ContractBroken} == set(found)
    assert all(issubclass(one, StageError) for one in found)
