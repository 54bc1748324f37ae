import json

import pytest

from storage.embedded.errors import DiskFull, Exists, find_http_status, name_failure
from storage.embedded.http.calls import answer_error
from storage.errors import Damaged, NotFound, Refused, StorageError


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("no such branch"), 404, "lake.not_found"),
        (Exists("branch main exists"), 409, "lake.conflict"),
        (DiskFull("no space left"), 507, "lake.unavailable"),
        (Refused("bad name", code="lake.branch_protected"), 400, "lake.branch_protected"),
    ],
)
def test_an_error_has_lakefs_body_and_its_code_in_a_header(
    error: StorageError, status: int, code: str
) -> None:
    answer = answer_error(error, {"retry-after": "1"})
    assert answer.status_code == status == find_http_status(error)
    assert json.loads(answer.body) == {"message": str(error)}
    assert answer.headers["x-headrace-code"] == code
    assert answer.headers["retry-after"] == "1"


def test_an_error_that_is_named_again_keeps_its_remedy_and_its_code() -> None:
    first = NotFound("no ref x", remedy="Name one.", code="lake.ref_missing")
    with pytest.raises(NotFound, match="branch x: no ref x") as caught, name_failure("branch x"):
        raise first
    assert (caught.value.remedy, caught.value.code) == ("Name one.", "lake.ref_missing")
    assert caught.value.__cause__ is first


def test_damage_is_not_named_again() -> None:
    with pytest.raises(Damaged, match=r"^a bit flipped$"), name_failure("branch x"):
        raise Damaged("a bit flipped")
