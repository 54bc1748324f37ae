"""Every byte of a small release, flipped in turn: `verify` refuses each, and says why.

All of it stands in one folder, the policy too, as a person would copy it; nothing is sampled in
the long run, and every 31st flip is tried in the short one.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from security.errors import SecurityError, Untrusted
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.signing import verify_release

SMALL = {"model.onnx": b"a small model", "reference.json": b"{}"}
STRIDE = 31


@pytest.fixture(scope="module")
def small(home: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release folder that carries its policy."""
    place = tmp_path_factory.mktemp("small")
    home.make_release(place / "plain", place / "release", files=SMALL)
    for name in ("trust.dsse.json", "rules.dsse.json"):
        shutil.copy(home.folder / name, place / "release" / name)
    return place / "release"


def flipped(path: Path, step: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Change one byte of the file in place, yield where and by which bits, and put it back."""
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for place in range(first, len(data), step):
            # A different bit at each place; the low one makes the neighbour of every digit.
            bits = 1 << (place % 8)
            os.pwrite(file.fileno(), bytes([data[place] ^ bits]), place)
            yield place, bits
            os.pwrite(file.fileno(), data[place : place + 1], place)
    if path.read_bytes() != data:
        raise RuntimeError("the file was not restored")


def refusals(path: Path, judge: Callable[[], object], step: int) -> Counter[str]:
    """How many flips of `path` were refused, by type of error; `accepted` should not be there."""
    found: Counter[str] = Counter()
    for place, bits in flipped(path, step):
        try:
            judge()
            found[f"accepted: {path.name} byte {place} bits {bits:#x}"] += 1
        except SecurityError as error:
            found[type(error).__name__] += 1
    return found


def judge_of(small: Path, home: Any) -> dict[str, Callable[[], object]]:
    """The part of `verify` that reads each file: the policy's two, or the release's."""
    root = home.policy.root
    policy = TrustPolicy.load(small, root=root)
    judges: dict[str, Callable[[], object]] = {}
    for path in sorted(small.rglob("*")):
        if path.name in ("trust.dsse.json", "rules.dsse.json"):
            judges[str(path)] = lambda: TrustPolicy.load(small, root=root)
        elif path.is_file():
            judges[str(path)] = lambda: verify_release(small, policy=policy)
    return judges


def refuse_every_flip(small: Path, home: Any, step: int) -> int:
    count = 0
    for path, judge in judge_of(small, home).items():
        judge()
        found = refusals(Path(path), judge, step)
        assert set(found) == {Untrusted.__name__}, (path, found)
        count += sum(found.values())
    return count


def test_each_31st_byte_flipped_is_untrusted(small: Path, home: Any) -> None:
    size = sum(path.stat().st_size for path in small.rglob("*") if path.is_file())
    assert refuse_every_flip(small, home, STRIDE) >= size // STRIDE


@pytest.mark.long
def test_every_byte_flipped_is_untrusted(small: Path, home: Any) -> None:
    size = sum(path.stat().st_size for path in small.rglob("*") if path.is_file())
    assert refuse_every_flip(small, home, 1) == size


def test_a_flipped_byte_of_the_pinned_root_is_refused(
    small: Path, home: Any, tmp_path: Path
) -> None:
    """Another root is another owner: nothing that the first one signed is believed."""
    pinned = tmp_path / "root.json"
    shutil.copy(home.folder / "root.json", pinned)
    found = refusals(pinned, lambda: TrustPolicy.load(small, root=load_root(pinned)), STRIDE)
    assert set(found) <= {"Untrusted", "BadKey"}, found


@pytest.mark.parametrize("name", ["release.dsse.json", "model.onnx.sealed", "x", ".hidden"])
def test_a_file_more_is_refused_by_name(small: Path, home: Any, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "release"
    shutil.copytree(small, copy)
    extra = copy / "payload" / name
    if extra.exists():
        extra = extra.with_name("second.sealed")
    extra.write_bytes(b"x")
    with pytest.raises(Untrusted, match=f"not the signed ones: '{extra.name}'"):
        verify_release(copy, policy=home.policy)
