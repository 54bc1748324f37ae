"""The commit that a person means by a moment, or by a version of a table."""

import re
from datetime import UTC, datetime

from storage import tables
from storage.errors import NotFound
from storage.lake import MAIN, Lake, Pin

# BRANCH@TIME, TABLE@vN; a time alone is one of main.
_AT = re.compile(r"(?:(?P<of>.*)@)?(?P<what>[^@]+)")
_VERSION = re.compile(r"v(?P<number>\d{1,18})")
_ENTRY = re.compile(r"(\d{20})\.json")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# How far back a history is searched.
REACH = 100_000


def is_no_ref(text: str) -> bool:
    """Whether lakeFS has no ref of such a form: it has no colon, and @ ends it."""
    return ":" in text or "@" in text[:-1]


def meant(lake: Lake, repository: str, text: str) -> Pin | None:
    """The commit that TIME, BRANCH@TIME or TABLE@vN names; None if the text is none of these.

    Times are ISO 8601, in UTC unless they say otherwise. Raises: NotFound for a branch, a table,
    a version or a time that the history does not have.
    """
    parts = _AT.fullmatch(text)
    if parts is None:
        return None
    if (moment := moment_of(parts["what"])) is not None:
        return commit_at(lake, lake.pin(repository, parts["of"] or MAIN), moment)
    version = _VERSION.fullmatch(parts["what"])
    if not parts["of"] or version is None:
        return None
    return _with_version(lake, repository, parts["of"], int(version["number"]))


def moment_of(text: str) -> datetime | None:
    """The time that a text states, in UTC and as UTC if it has no zone; None if it states none."""
    if not _DATE.match(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def commit_at(lake: Lake, head: Pin, moment: datetime) -> Pin:
    """The commit that `head`'s branch was at, at a moment. Raises: NotFound before the first."""
    for commit in lake.fs.log(head.repository, head.commit, limit=REACH):
        if datetime.fromtimestamp(commit.created_at, UTC) <= moment:
            return Pin(head.repository, commit.id)
    raise NotFound(
        f"{head.repository} has no commit as old as {moment:%Y-%m-%d %H:%M:%S} UTC.",
        remedy="`headrace data log` prints when each commit was made.",
    )


def _with_version(lake: Lake, repository: str, table: str, number: int) -> Pin:
    """The newest commit of main at which the table has that version; versions only grow."""
    head = lake.pin(repository, MAIN)
    commits = [c.id for c in lake.fs.log(repository, head.commit, limit=REACH)]
    low, high = 0, len(commits)
    while low < high:
        middle = (low + high) // 2
        if _version(lake, repository, commits[middle], table) > number:
            low = middle + 1
        else:
            high = middle
    if low == len(commits) or _version(lake, repository, commits[low], table) != number:
        raise NotFound(
            f"{table} has no version {number} in the history of main.",
            remedy=f"`headrace data log {table}` prints its commits; name one of them.",
        )
    return Pin(repository, commits[low])


def _version(lake: Lake, repository: str, commit: str, table: str) -> int:
    """By the names of the log's entries: a purge may have taken what stood in them."""
    log = f"{tables.path_of(table)}/_delta_log/"
    paths = (e.path.removeprefix(log) for e in lake.fs.objects(repository, commit, prefix=log))
    return max((int(found[1]) for path in paths if (found := _ENTRY.fullmatch(path))), default=-1)
