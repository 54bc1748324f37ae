"""A lake's first key, told once: on a terminal, or in a file where there is none to show it on."""

import json
import os
import sys
from pathlib import Path

from storage.embedded.keys.access_keys import Key


def show(key: Key, root: Path) -> None:
    """Tell the key to whoever starts the lake; a log must not get to see it."""
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
