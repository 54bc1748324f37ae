import json

import pytest

from flows.cli.commands import verify
from flows.release.catalog import CheckedRelease
from security.errors import Untrusted

REFUSED = CheckedRelease((), None, Untrusted("not signed by a releaser", remedy="ask them"))


def test_a_refusal_names_the_step_the_problem_and_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    verify._show(REFUSED, "flights/7", None)  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "problem: step 1 refuses flights/7: not signed by a releaser\nremedy: ask them\n"
    )


def test_a_refusal_for_a_program_is_not_verified_and_has_the_problem() -> None:
    document = verify._document(REFUSED, "flights/7", None)  # type: ignore[arg-type]
    assert json.loads(json.dumps(document)) == {
        "digest": None,
        "release": "flights/7",
        "verified": False,
        "steps": [],
        "problem": "not signed by a releaser",
    }
