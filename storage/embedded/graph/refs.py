"""Names, and expressions that name a commit: `main`, `main~2`, `v1^2`, `3f9c01`, `main@`, `main$`.

The rules and their order are lakeFS's: a full commit id wins over a branch, a branch over a tag,
and a tag over a unique prefix of a commit id.
"""

import re
from dataclasses import dataclass

import apsw

from storage.embedded.graph.commits import find_by_prefix, find_commit, get_commit
from storage.embedded.sqlite import fetch_first
from storage.errors import NotFound, Refused

MAX_PATH_BYTES = 1024
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
_REF = re.compile(r"\S+")
_HASH = re.compile(r"[a-fA-F0-9]{1,64}")
_TAG_REFUSES = re.compile(r"[\x00-\x20^:?*\[\\/]|\.\.|@\{|\.$|\.lock$|^@$")
_PARTS = re.compile(r"(?:^|[~^@$])[^~^@$]*")
INVALID = "invalid value: validation error"


@dataclass(frozen=True, slots=True)
class BranchRow:
    """A branch's row."""

    name: str
    head: str
    area: int
    """Its staging area. A branch that is made again under an old name gets another one."""
    hidden: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a ref expression stands for; `branch` is set where uncommitted data is part of it."""

    commit: str
    branch: BranchRow | None = None
    staging_only: bool = False


def check_repository(name: str, *, argument: str = "repository") -> None:
    """Raises: Refused if lakeFS would not take this repository name."""
    _check(_REPOSITORY.fullmatch(name), name, argument, "repository id")


def check_branch(name: str, *, argument: str = "branch") -> None:
    """Raises: Refused if lakeFS would not take this branch name."""
    _check(_BRANCH.fullmatch(name), name, argument, "branch id")


def check_tag(name: str) -> None:
    """Raises: Refused if lakeFS would not take this tag name."""
    _check(not _TAG_REFUSES.search(name), name, "tagID", "tag id")


def check_ref(expression: str, *, argument: str = "ref") -> None:
    """Raises: Refused if this is no ref expression at all."""
    _check(_REF.fullmatch(expression), expression, argument, "ref")


def check_path(path: str) -> None:
    """Raises: Refused if an object cannot have this path."""
    if not path:
        raise Refused("argument path: missing path: required value: validation error")
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise Refused("argument path: not valid UTF-8") from error
    if length > MAX_PATH_BYTES:
        limit = f"{length} is above maximum length ({MAX_PATH_BYTES})"
        raise Refused(f"argument path: {INVALID}: {limit}")


def find_branch(connection: apsw.Connection, repository: str, name: str) -> BranchRow | None:
    """The branch, if there is one."""
    row = fetch_first(
        connection,
        "SELECT name, head, staging, hidden FROM branch WHERE repository = ? AND name = ?",
        *(repository, name),
    )
    return BranchRow(row[0], row[1], row[2], bool(row[3])) if row else None


def get_branch(connection: apsw.Connection, repository: str, name: str) -> BranchRow:
    """Raises: NotFound."""
    branch = find_branch(connection, repository, name)
    if branch is None:
        raise NotFound("branch not found")
    return branch


def find_tag(connection: apsw.Connection, repository: str, name: str) -> str | None:
    """The tagged commit, if there is such a tag."""
    row = fetch_first(
        connection,
        "SELECT target FROM tag WHERE repository = ? AND name = ?",
        *(repository, name),
    )
    return row[0] if row else None


def resolve(connection: apsw.Connection, repository: str, expression: str) -> Resolved:
    """What `expression` stands for. Raises: NotFound, Refused."""
    base, *modifiers = _PARTS.findall(expression) or [""]
    if not base:
        raise Refused(f"ref: {INVALID}")
    steps = [_parse_modifier(text) for text in modifiers]
    start = _resolve_base(connection, repository, base)
    if len(steps) == 1 and steps[0][0] in "@$":
        return _resolve_branch_mark(start, steps[0][0])
    commit = start.commit
    for mark, amount in steps:
        commit = _step(connection, repository, commit, mark, amount)
    return Resolved(commit) if steps else start


def resolve_commit(connection: apsw.Connection, repository: str, expression: str) -> str:
    """The commit id that `expression` stands for. Raises: NotFound, Refused."""
    found = resolve(connection, repository, expression)
    if found.staging_only:
        problem = "reference to staging area with $ is not a commit"
        raise Refused(f"reference '{expression}': {problem}")
    return found.commit


def _check(fits: object, name: str, argument: str, kind: str) -> None:
    if not name:
        raise Refused(f"argument {argument}: required value: validation error")
    if not fits:
        raise Refused(f"argument {argument}: {kind}: {INVALID}")


def _resolve_base(connection: apsw.Connection, repository: str, name: str) -> Resolved:
    if len(name) == 64 and _HASH.fullmatch(name) and find_commit(connection, repository, name):
        return Resolved(name)
    if branch := find_branch(connection, repository, name):
        return Resolved(branch.head, branch)
    if target := find_tag(connection, repository, name):
        return Resolved(target)
    if _HASH.fullmatch(name) and (commit := find_by_prefix(connection, repository, name)):
        return Resolved(commit)
    raise NotFound("not found")


def _parse_modifier(text: str) -> tuple[str, int]:
    mark, amount = text[0], text[1:]
    if amount and (mark in "@$" or not re.fullmatch(r"[+-]?[0-9]{1,18}", amount)):
        problem = "" if mark in "@$" else f"could not parse modifier {text}: "
        raise Refused(f"{problem}ref: {INVALID}")
    return mark, int(amount or "1")


def _resolve_branch_mark(start: Resolved, mark: str) -> Resolved:
    if start.branch is None:
        raise Refused(f"ref: {INVALID}")
    if mark == "@":
        return Resolved(start.commit)
    return Resolved(start.commit, start.branch, staging_only=True)


def _step(connection: apsw.Connection, repository: str, commit: str, mark: str, amount: int) -> str:
    if mark in "@$":
        raise Refused(f"ref: {INVALID}")
    if mark == "^":
        parents = get_commit(connection, repository, commit).parents
        if amount > len(parents) or amount < 0:
            raise Refused(f"ref: {INVALID}")
        return parents[amount - 1] if amount else commit
    for _ in range(amount):
        parents = get_commit(connection, repository, commit).parents
        if not parents:
            raise NotFound("not found")
        commit = parents[0]
    return commit
