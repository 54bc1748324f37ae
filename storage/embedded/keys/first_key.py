"""A lake's first key, shown once: on a terminal, or in a file where there is none."""

import json
import os
import sys
from pathlib import Path

from storage.embedded.keys.access_keys import ADMIN, EVERYTHING, Key
from storage.embedded.keys.keyring import Keyring
from storage.errors import Unavailable


def check_keys(root: Path, *, make_first: bool) -> None:
    """Check the lake's keys; with `make_first` one is made where there is none, and shown.

    Raises: Damaged, Refused if the keys cannot be used, Unavailable if the first cannot be shown.
    """
    ring = Keyring(root)
    try:
        ring.check()
        if make_first and not ring.list_keys():
            _make_first(ring, root)
    finally:
        ring.close()


def _make_first(ring: Keyring, root: Path) -> None:
    key = ring.create(ADMIN, EVERYTHING)
    try:
        _show(key, root)
    except FileExistsError as error:
        ring.revoke(ADMIN)
        raise Unavailable(
            f"the lake's first key cannot be left in {error.filename}: there is one already",
            remedy="That one opens nothing any more: remove it.",
        ) from error
    except OSError as error:
        ring.revoke(ADMIN)
        raise Unavailable(
            f"the lake's first key cannot be shown: {error.strerror or error}",
            remedy=f"Make {root.parent} writable, or set the variables with a key of your own.",
        ) from error


def _show(key: Key, root: Path) -> None:
    """Show the key to whoever starts the lake; a log must not get to see it."""
    if sys.stderr.isatty():
        told = f"access key id      {key.id}\nsecret access key  {key.secret}"
        print(f"The lake's first key, shown only now:\n{told}", file=sys.stderr)
        return
    path = root.parent / f"{root.name}.first-key.json"
    body = json.dumps({"access_key_id": key.id, "secret_access_key": key.secret}, indent=2)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"{body}\n")
        file.flush()
        os.fsync(file.fileno())
    print(f"The lake's first key is in {path}: move it to where you keep keys.", file=sys.stderr)
