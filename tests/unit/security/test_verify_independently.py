"""A verifier of a few hundred lines, written from docs/formats, against the real one.

It must accept what Headrace seals today and what its first version sealed, and refuse each flipped
byte that Headrace refuses.
"""

import ast
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import verify_independently as independent
from security.errors import Untrusted
from security.formats import envelope
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.signing import verify_release

GOLDEN = Path(__file__).parent / "golden-v1"
SCRIPT = Path(independent.__file__)
STRIDE = 61


def refusals(path: Path, judge: Callable[[], object]) -> Counter[str]:
    data = path.read_bytes()
    found: Counter[str] = Counter()
    for place in range(0, len(data), STRIDE):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            judge()
            found[f"accepted: {path.name} byte {place}"] += 1
        except independent.Refused:
            found["refused"] += 1
    path.write_bytes(data)
    return found


@pytest.fixture
def carried(home: Any, released: SimpleNamespace) -> Path:
    """A release that carries its policy."""
    for name in ("trust.dsse.json", "rules.dsse.json"):
        shutil.copy(home.folder / name, released.folder / name)
    return Path(released.folder)


def test_it_shares_no_code_with_headrace() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
        if name
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_a_release_sealed_today_verifies_by_itself(home: Any, carried: Path) -> None:
    digest = verify_release(carried, policy=home.policy).digest
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, carried, home.folder / "root.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"verified: release {digest}\n"


def test_a_release_of_the_first_version_verifies_by_itself() -> None:
    policy = TrustPolicy.load(GOLDEN, root=load_root(GOLDEN / "root.json"))
    digest = verify_release(GOLDEN / "release", policy=policy).digest
    assert independent.verify(GOLDEN / "release", GOLDEN / "root.json", GOLDEN) == digest


def test_it_refuses_the_flips_that_headrace_refuses(home: Any, carried: Path) -> None:
    for path in sorted(path for path in carried.rglob("*") if path.is_file()):
        if path.name == "model.onnx.sealed":
            continue
        found = refusals(path, lambda: independent.verify(carried, home.folder / "root.json"))
        assert set(found) == {"refused"}, (path, found)


@pytest.mark.parametrize("name", [".hidden", "payload/extra.sealed", "release2.dsse.json"])
def test_it_refuses_a_file_more(home: Any, carried: Path, name: str) -> None:
    (carried / name).write_bytes(b"x")
    with pytest.raises(independent.Refused, match="files"):
        independent.verify(carried, home.folder / "root.json")


def test_it_says_no_to_another_root_by_its_exit_code(carried: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, carried, GOLDEN / "root.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "refused: 0 of 1 signing pairs have signed\n"


def weaken(statement: dict[str, Any]) -> None:
    statement["predicate"]["gates"][0]["threshold"] = "0.99"


def rename(statement: dict[str, Any]) -> None:
    statement["predicate"]["model"] = "other"


def unpin(statement: dict[str, Any]) -> None:
    statement["predicate"]["build"]["data"]["flights"]["commit"] = "main"


def add_subject(statement: dict[str, Any]) -> None:
    statement["subject"].append({"name": "z", "digest": {"sha256": "00" * 32}})


@pytest.mark.parametrize("edit", [weaken, rename, unpin, add_subject])
@pytest.mark.parametrize("role", ["releaser", "trainer"])
def test_both_refuse_what_a_signer_lies_about(
    home: Any, carried: Path, resign: Any, edit: Any, role: str
) -> None:
    resign(carried / "release.dsse.json", home.signers[role], edit)
    with pytest.raises(Untrusted):
        verify_release(carried, policy=home.policy)
    with pytest.raises(independent.Refused):
        independent.verify(carried, home.folder / "root.json")


@pytest.mark.parametrize("half", [0, 1])
def test_both_refuse_a_stripped_half(home: Any, carried: Path, half: int) -> None:
    path = carried / "gates.dsse.json"
    fields = json.loads(path.read_bytes())
    assert len(envelope.decode64(fields["signatures"][1]["sig"], "")) == 3309
    del fields["signatures"][half]
    path.write_text(json.dumps(fields))
    with pytest.raises(Untrusted):
        verify_release(carried, policy=home.policy)
    with pytest.raises(independent.Refused, match="0 of 1"):
        independent.verify(carried, home.folder / "root.json")
