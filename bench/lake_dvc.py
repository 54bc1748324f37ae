"""Versioning 1 GiB for bench/lake.py: ten partitions, one changes; beside DVC on the same files."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

from lake_server import Server

PARTS, PART_BYTES = 10, (1 << 30) // 10
BLOCK = 1 << 20
GET_DVC = "python -m venv DIR && DIR/bin/pip install dvc, then --dvc DIR/bin/dvc"
Steps = dict[str, float]


def versioning(server: Server, folder: Path, dvc: str | None) -> tuple[float, float] | None:
    """Seconds from branch to roll-back, here and with DVC; None without a dvc."""
    source = partitions(folder / "source")
    changed = random_file(folder / "changed")
    ours = in_the_lake(server, source, changed)
    print_steps("embedded lake", ours)
    if dvc is None:
        print(f"DVC: not measured, no program was given. Get one: {GET_DVC}")
        return None
    theirs = in_dvc(Path(dvc).resolve(), folder / "dvc", source, changed)
    print_steps("DVC", theirs)
    print_limit(changed, after_import(theirs))
    return after_import(ours), after_import(theirs)


def in_the_lake(server: Server, source: list[Path], changed: Path) -> Steps:
    """Reads need no checkout here: a branch is readable the moment it has moved."""

    def upload(branch: str, path: Path, key: str) -> None:
        with path.open("rb") as file:
            server.put(branch, key, file)

    def first() -> None:
        for path in source:
            upload("main", path, f"big/{path.name}")
        server.call("POST", "/branches/main/commits", {"message": "import"})

    steps = {"import": timed(first)}
    branch = {"name": "change", "source": "main"}
    steps["branch"] = timed(lambda: server.call("POST", "/branches", branch))
    steps["change"] = timed(lambda: upload("change", changed, f"big/{source[0].name}"))
    commits = "/branches/change/commits"
    steps["commit"] = timed(lambda: server.call("POST", commits, {"message": "change"}))
    undo = {"ref": "change", "parent_number": 0}
    steps["roll back"] = timed(lambda: server.call("POST", "/branches/change/revert", undo))
    return steps


def in_dvc(dvc: Path, folder: Path, source: list[Path], changed: Path) -> Steps:
    """The same in a Git repository whose folder of data DVC keeps, in its own default way."""
    data = folder / "data"
    data.mkdir(parents=True)
    for path in source:
        shutil.copyfile(path, data / path.name)
    keeper = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")

    def git(*words: str) -> None:
        run(folder, "git", *keeper, *words)

    def add(message: str) -> None:
        run(folder, dvc, "add", "--quiet", "data")
        git("add", "-A")
        git("commit", "-q", "-m", message)

    def back() -> None:
        git("checkout", "-q", "main")
        run(folder, dvc, "checkout", "--quiet")

    git("init", "-q", "-b", "main")
    run(folder, dvc, "init", "--quiet")
    steps = {"import": timed(lambda: add("import"))}
    steps["branch"] = timed(lambda: git("checkout", "-q", "-b", "change"))
    steps["change"] = timed(lambda: shutil.copyfile(changed, data / source[0].name))
    steps["commit"] = timed(lambda: add("change"))
    steps["roll back"] = timed(back)
    return steps


def run(folder: Path, *command: str | Path) -> None:
    """Raises: CalledProcessError."""
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(command, cwd=folder, env=quiet, check=True, stdout=subprocess.DEVNULL)


def after_import(steps: Steps) -> float:
    """What one version costs once the data is there."""
    return sum(steps.values()) - steps["import"]


def print_steps(name: str, steps: Steps) -> None:
    """One line."""
    told = ", ".join(f"{step} {seconds:.3f}" for step, seconds in steps.items())
    print(f"{name}: {told}; without the import {after_import(steps):.3f} s")


def print_limit(changed: Path, theirs: float) -> None:
    """How far ahead a lake could be whose version took no longer than the slower of its digests."""
    body = changed.read_bytes()
    hashing = min(timed(lambda: md5(body, usedforsecurity=False)) for _ in range(3))
    print(f"MD5 alone of what changed: {hashing:.3f} s, so {theirs / hashing:.1f} x at most")


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def partitions(folder: Path) -> list[Path]:
    """Ten files of random bytes."""
    folder.mkdir()
    return [random_file(folder / f"part-{number}") for number in range(PARTS)]


def random_file(path: Path) -> Path:
    """A partition."""
    with path.open("wb") as file:
        for _ in range(PART_BYTES // BLOCK):
            file.write(os.urandom(BLOCK))
        file.write(os.urandom(PART_BYTES % BLOCK))
    return path
