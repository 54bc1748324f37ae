"""What a lakeFS's answers mean here."""

import json

import pytest
from lakefs_client.exceptions import ApiException

from storage.errors import Conflict, Forbidden, NotFound, Refused, StorageError, Unavailable
from storage.lake import Lake
from storage.lake.connection import Access, translate_error

ACCESS = Access("http://127.0.0.1:9", "AKIA", "secret")


def answer(status: int, message: str) -> ApiException:
    error = ApiException(status=status, reason="what HTTP says")
    error.body = json.dumps({"message": message})
    return error


@pytest.mark.parametrize(
    ("status", "message", "kind", "code"),
    [
        (400, "bad path", Refused, "lake.refused"),
        (401, "error authenticating request", Forbidden, "lake.key_refused"),
        (401, "insufficient permissions", Forbidden, "lake.forbidden"),
        (403, "cannot write to protected branch", Forbidden, "lake.branch_protected"),
        (403, "forbidden", Forbidden, "lake.forbidden"),
        (404, "branch not found", NotFound, "lake.not_found"),
        (409, "it exists", Conflict, "lake.conflict"),
        (410, "deleted", NotFound, "lake.bytes_purged"),
        (412, "precondition failed", Conflict, "lake.conflict"),
        (423, "locked", Conflict, "lake.conflict"),
        (429, "slow down", Unavailable, "lake.unavailable"),
        (500, "oops", Unavailable, "lake.unavailable"),
        (501, "not here", Refused, "lake.refused"),
        (503, "starting", Unavailable, "lake.unavailable"),
    ],
)
def test_an_answer_is_translated_by_what_a_caller_does_next(
    status: int, message: str, kind: type[StorageError], code: str
) -> None:
    found = translate_error(answer(status, message), "object a/main/b", ACCESS)
    assert (type(found), found.code) == (kind, code)
    assert "object a/main/b" in str(found)
    assert "secret" not in str(found) + found.remedy


def test_a_body_that_is_no_json_leaves_the_reason() -> None:
    error = answer(404, "")
    error.body = "<html>"
    assert "what HTTP says" in str(translate_error(error, "tag a/b", ACCESS))


def test_a_key_is_not_printed_with_its_secret() -> None:
    assert "secret" not in repr(ACCESS)


def test_where_nothing_answers_the_error_says_where() -> None:
    with pytest.raises(Unavailable, match=r"at http://127\.0\.0\.1:9 ") as caught:
        Lake(ACCESS).fs.head("a", "main")
    assert caught.value.code == "lake.no_answer"
