"""Which code and which environment a run was made with."""

import hashlib
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LOCK = "requirements.lock"


@cache
def code(root: Path) -> Mapping[str, str]:
    """`code_commit` (40 hex, empty outside git), `code_clean` and `lock` (SHA-256 of the lock)."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    lock = root / LOCK
    return {
        "code_commit": commit or "",
        "code_clean": str(bool(commit) and changes == "").lower(),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
