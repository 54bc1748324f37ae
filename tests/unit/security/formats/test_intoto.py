import json
from typing import Any

import pytest

from security.errors import Untrusted
from security.formats import canonical
from security.formats.intoto import MAX_SUBJECTS, STATEMENT, Statement, parse_statement

KIND = "https://example.org/kind/v1"
SUBJECTS = {"b.bin": "0b" * 32, "a.bin": "0a" * 32}


def fields(**changes: Any) -> bytes:
    good = json.loads(Statement(SUBJECTS, KIND, {"x": 1}).to_bytes())
    return canonical.encode({**good, **changes})


def test_a_statement_reads_back_and_lists_its_subjects_by_name() -> None:
    data = Statement(SUBJECTS, KIND, {"x": 1}).to_bytes()
    found = parse_statement(data, predicate_type=KIND)
    assert (found.subjects, found.predicate) == (SUBJECTS, {"x": 1})
    written = json.loads(data)
    assert written["_type"] == STATEMENT
    assert [one["name"] for one in written["subject"]] == ["a.bin", "b.bin"]


@pytest.mark.parametrize(
    "data",
    [
        fields(extra=1),
        fields(_type="https://in-toto.io/Statement/v2"),
        fields(predicateType="https://example.org/other/v1"),
        fields(predicate=[]),
        fields(subject=[]),
        fields(subject=[{"name": "a.bin", "digest": {"sha256": "0a" * 32}}] * 2),
        fields(subject=[{"name": "../a", "digest": {"sha256": "0a" * 32}}]),
        fields(subject=[{"name": "a.bin", "digest": {"sha1": "0a" * 20}}]),
        fields(
            subject=[
                {"name": f"{place}.bin", "digest": {"sha256": "0a" * 32}}
                for place in range(MAX_SUBJECTS + 1)
            ]
        ),
        json.dumps(json.loads(fields()), indent=1).encode(),
    ],
    ids=range(10),
)
def test_another_statement_is_malformed(data: bytes) -> None:
    with pytest.raises(Untrusted) as refused:
        parse_statement(data, predicate_type=KIND)
    assert refused.value.code == "trust.malformed"
