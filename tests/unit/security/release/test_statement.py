import dataclasses
import hashlib
import json
from types import SimpleNamespace

import pytest

from security.errors import Untrusted
from security.formats import canonical
from security.release.statement import parse_release


def test_a_release_reads_back_and_is_named_by_its_statement(released: SimpleNamespace) -> None:
    payload = released.release.to_statement().to_bytes()
    assert parse_release(payload) == released.release
    assert released.release.digest == hashlib.sha256(payload).hexdigest()
    assert released.release.path == "models/delays/1"


def test_subjects_that_are_not_the_payload_are_contradictory(released: SimpleNamespace) -> None:
    fields = json.loads(released.release.to_statement().to_bytes())
    fields["subject"][0]["digest"]["sha256"] = "ab" * 32
    with pytest.raises(Untrusted, match="subjects are not its payload files") as refused:
        parse_release(canonical.encode(fields))
    assert refused.value.code == "trust.contradictory"


def test_a_release_of_another_model_than_its_build_is_contradictory(
    released: SimpleNamespace,
) -> None:
    other = dataclasses.replace(released.release, model="another")
    with pytest.raises(Untrusted, match="another model than its build"):
        parse_release(other.to_statement().to_bytes())
