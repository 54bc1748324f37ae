"""What drives the numbered steps, and the codes of what they refuse."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import Untrusted
from security.release.verify import begin_verification, run_steps, verify_release

TITLES = [
    "files",
    "release",
    "identity",
    "provenance",
    "build",
    "gates",
    "thresholds",
    "card",
    "payload",
]


def test_each_step_that_passed_is_told_in_order(home: Any, released: SimpleNamespace) -> None:
    told: list[str] = []
    steps = begin_verification(released.folder, policy=home.policy)
    verified = run_steps(steps, on_passed=lambda step: told.append(step.title))
    assert told == TITLES == [step.title for step in verified.steps]
    assert verified.signers == {
        role: (home.signers[role].public.key_id,) for role in ("releaser", "trainer", "gatekeeper")
    }


def test_the_step_that_refuses_is_told_to_nobody(home: Any, released: SimpleNamespace) -> None:
    (released.folder / "card.md").write_text("another")
    told: list[str] = []
    steps = begin_verification(released.folder, policy=home.policy)
    with pytest.raises(Untrusted, match="not the signed one"):
        run_steps(steps, on_passed=lambda step: told.append(step.title))
    assert told == TITLES[: TITLES.index("card")]


def test_steps_that_were_stopped_are_no_pass(home: Any, released: SimpleNamespace) -> None:
    steps = begin_verification(released.folder, policy=home.policy)
    next(steps)
    steps.close()
    with pytest.raises(Untrusted, match="did not come to an end"):
        run_steps(steps)


def _damage(folder: Path) -> None:
    path = folder / "payload" / "model.onnx.sealed"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "extra").touch(), "trust.unlisted_file"),
        (lambda folder: (folder / "payload" / "extra").touch(), "trust.unlisted_file"),
        (lambda folder: (folder / "card.md").write_text("another"), "trust.digest_mismatch"),
        (_damage, "trust.digest_mismatch"),
        (lambda folder: (folder / "release.dsse.json").write_bytes(b"{}"), "trust.malformed"),
        (
            lambda folder: shutil.copy(
                folder / "provenance.dsse.json", folder / "release.dsse.json"
            ),
            "trust.wrong_role",
        ),
    ],
    ids=range(6),
)
def test_each_refusal_has_its_code(
    home: Any, released: SimpleNamespace, change: Callable[[Path], object], code: str
) -> None:
    change(released.folder)
    with pytest.raises(Untrusted) as refused:
        verify_release(released.folder, policy=home.policy)
    assert refused.value.code == code


def test_another_version_than_the_one_asked_for_is_the_wrong_release(
    home: Any, released: SimpleNamespace
) -> None:
    with pytest.raises(Untrusted) as refused:
        verify_release(released.folder, policy=home.policy, version=2)
    assert refused.value.code == "trust.wrong_release"
