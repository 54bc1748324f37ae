"""The services' log files."""

from pathlib import Path

KEEP_BYTES = 10_000_000
LAST_BYTES = 4_000


def log_path(home: Path, name: str) -> Path:
    """Where a service's output goes."""
    return home / "logs" / f"{name}.log"


def open_log(path: Path) -> int:
    """Make the log ready to append to, one old file kept beside it; its present length."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    length = path.stat().st_size if path.exists() else 0
    if length > KEEP_BYTES:
        path.replace(path.with_suffix(".log.1"))
        return 0
    return length


def last_words(path: Path, *, after: int = 0) -> str:
    """What the log ends with, in one line: of what was written after byte `after`, the last two
    lines that are not indented, so that a traceback gives its error and a problem its remedy.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(after, end - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    told = [line for line in lines if line.strip()]
    while told and told[-1][0].isspace():
        told.pop()
    return "; ".join(line.strip() for line in told[-2:] if not line[0].isspace())
