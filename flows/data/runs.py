"""One run's record, found by how its id begins."""

from storage.errors import NotFound, Refused
from storage.lake import Lake, Pin
from storage.runs.records import Record


def find_one(lake: Lake, pin: Pin, prefix: str) -> Record:
    """The record whose run id begins so. Raises NotFound for none, Refused for several."""
    paths = (e.path for e in lake.fs.objects(pin.repository, pin.commit, prefix="metadata/"))
    found = [path for path in paths if path.rsplit("/", 1)[-1].startswith(prefix)]
    if not found:
        raise NotFound(
            f"No run at {pin.commit[:12]} has an id that begins with {prefix!r}.",
            remedy="`headrace runs` prints them; --on BRANCH looks on another branch.",
        )
    if len(found) > 1:
        raise Refused(
            f"{len(found)} runs have an id that begins with {prefix!r}.",
            remedy="Give more digits.",
        )
    data = lake.fs.get(pin.repository, pin.commit, found[0])
    return Record.from_json(data, f"The record {found[0]}")
