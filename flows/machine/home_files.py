"""Files in `.headrace`: small ones that appear whole or not at all, and the services' logs."""

import os
from pathlib import Path

OWNER_ONLY = 0o600
KEEP_LOG_BYTES = 10_000_000
LAST_LOG_BYTES = 4_000


def write_whole(path: Path, text: str) -> None:
    """Replace `path` atomically; a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _write_draft(path, text)
    draft.replace(path)


def read_or_create(path: Path, text: str) -> str:
    """The text of `path`, which is `text` if nobody wrote it before; readable by its owner."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = _write_draft(path, text)
        try:
            # A link fails where a rename would overwrite another process's secret.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


def log_path(home: Path, name: str) -> Path:
    """Where a service's output goes."""
    return home / "logs" / f"{name}.log"


def open_log(path: Path) -> int:
    """Make the log ready to append to, one old file kept beside it; its present length."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    length = path.stat().st_size if path.exists() else 0
    if length > KEEP_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
        return 0
    return length


def quote_end(path: Path, *, after: int = 0) -> str:
    """What the log ends with, in one line: of what was written after byte `after`, the last two
    lines that are not indented, so that a traceback gives its error and a problem its remedy.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(after, end - LAST_LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    lines = [line for line in lines if line.strip()]
    while lines and lines[-1][0].isspace():
        lines.pop()
    return "; ".join(line.strip() for line in lines[-2:] if not line[0].isspace())


def _write_draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
