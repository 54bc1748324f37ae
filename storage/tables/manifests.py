"""What a table consists of at a commit, as one digest: its active files, and nothing around them.

Vacuum, compaction of the log and other tables do not change it; a changed row does.
"""

import hashlib
import json
from collections.abc import Iterable

from storage import tables
from storage.errors import Damaged, NotFound
from storage.lake import Lake, Pin


def manifests(lake: Lake, pin: Pin, names: Iterable[str]) -> dict[str, str]:
    """Table to the digest of its manifest, for those of `names` that exist at the pin."""
    found = {}
    for name in names:
        try:
            found[name] = manifest_digest(lake, pin, name)
        except NotFound:
            continue
    return found


def manifest_digest(lake: Lake, pin: Pin, table: str) -> str:
    """SHA-256 over name, size and the lake's checksum of every active file, hex.

    The bytes are those of `docs/formats/statements.md`. Raises: NotFound for a table that is not
    there, Damaged if an active file is missing.
    """
    prefix = f"{tables.path_of(table)}/"
    stored = {
        entry.path[len(prefix) :]: entry
        for entry in lake.fs.objects(pin.repository, pin.commit, prefix=prefix)
    }
    files = []
    for path in sorted(tables.snapshot(lake, pin.repository, pin.commit, table).files):
        if path not in stored:
            raise Damaged(f"{table} at {pin} lacks its file {path}.")
        entry = stored[path]
        files.append({"checksum": entry.checksum, "path": path, "size": entry.size})
    text = json.dumps({"files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
