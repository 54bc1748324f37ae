"""Small files that appear whole or not at all."""

import os
from pathlib import Path

OWNER_ONLY = 0o600


def write_whole(path: Path, text: str) -> None:
    """Replace `path` atomically; a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft(path, text)
    draft.replace(path)


def read_or_create(path: Path, text: str) -> str:
    """The text of `path`, which is `text` if nobody wrote it before; readable by its owner."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        draft = _draft(path, text)
        try:
            # A link fails where a rename would overwrite another process's secret.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
