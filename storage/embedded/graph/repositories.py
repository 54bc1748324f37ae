"""Repositories, their branch protection, and the guard every write passes."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import apsw

from storage.embedded.errors import Exists, PreconditionFailed, ReadOnly
from storage.embedded.graph.commits import NS, StoredCommit, add_commit, now_ns
from storage.embedded.graph.paging import Page, take_page
from storage.embedded.graph.refs import check_branch, check_repository
from storage.embedded.graph.staging import make_area
from storage.embedded.sqlite import fetch_all, fetch_first
from storage.errors import Forbidden, NotFound, Refused

NAMESPACE = re.compile(r"^local://")
COMMIT_BLOCKED = "cannot commit to protected branch"
WRITE_BLOCKED = "cannot write to protected branch"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository's row."""

    id: str
    namespace: str
    default_branch: str
    created_s: int
    read_only: bool
    protection: tuple[str, ...] | None


def create_repository(
    rows: apsw.Connection, name: str, namespace: str, default_branch: str, *, read_only: bool
) -> Repository:
    """Make it, with its first commit and its default branch. Raises: Refused, Exists."""
    check_repository(name, argument="name")
    if find_repository(rows, name):
        raise Exists("error creating repository: not unique")
    if not NAMESPACE.match(namespace):
        raise Refused(f"failed to match required regex {NAMESPACE.pattern}: invalid namespace")
    check_branch(default_branch, argument="default_branch")
    _check_namespace_free(rows, namespace)
    first = StoredCommit("", now_ns(), 1, "Repository created", {}, (), "")
    made = Repository(name, namespace, default_branch, first.created_ns // NS, read_only, None)
    rows.execute(
        "INSERT INTO repository VALUES (?, ?, ?, ?, ?, NULL)",
        (name, namespace, default_branch, made.created_s, read_only),
    )
    head = add_commit(rows, name, first)
    rows.execute(
        "INSERT INTO branch VALUES (?, ?, ?, 0, ?)", (name, default_branch, head, make_area(rows))
    )
    return made


def find_repository(rows: apsw.Connection, name: str) -> Repository | None:
    """The repository, if there is one."""
    found = fetch_first(rows, "SELECT * FROM repository WHERE id = ?", name)
    return _read_row(found) if found else None


def get_repository(rows: apsw.Connection, name: str) -> Repository:
    """Raises: Refused, NotFound."""
    check_repository(name)
    found = find_repository(rows, name)
    if found is None:
        raise NotFound("repository not found")
    return found


def list_repositories(
    rows: apsw.Connection,
    *,
    prefix: str = "",
    search: str = "",
    after: str = "",
    amount: int,
    visible: Callable[[str], bool],
) -> Page[Repository]:
    """A page of the `visible` repositories by name."""
    found = fetch_all(rows, "SELECT * FROM repository WHERE id > ? ORDER BY id", after)
    fitting = (row for row in found if row[0].startswith(prefix) and search in row[0])
    return take_page((_read_row(row) for row in fitting if visible(row[0])), amount)


def delete_repository(rows: apsw.Connection, name: str, *, force: bool = False) -> None:
    """Drop its refs, commits and uncommitted data. Nodes and blobs may be shared and stay."""
    check_changeable(rows, name, force=force)
    rows.execute(
        "DELETE FROM staged WHERE area IN (SELECT staging FROM branch WHERE repository = ?)",
        (name,),
    )
    for table in ("branch", "tag", "commits", "upload", "repository_metadata"):
        rows.execute(f"DELETE FROM {table} WHERE repository = ?", (name,))  # noqa: S608
    rows.execute("DELETE FROM repository WHERE id = ?", (name,))


def read_metadata(rows: apsw.Connection, name: str) -> dict[str, str]:
    """What people noted about the repository, by key."""
    get_repository(rows, name)
    found = fetch_all(
        rows, "SELECT key, value FROM repository_metadata WHERE repository = ? ORDER BY key", name
    )
    return dict(found)


def set_metadata(rows: apsw.Connection, name: str, values: Mapping[str, str]) -> None:
    """Add or replace these keys; the others stay."""
    get_repository(rows, name)
    rows.executemany(
        "INSERT OR REPLACE INTO repository_metadata VALUES (?, ?, ?)",
        [(name, key, value) for key, value in values.items()],
    )


def delete_metadata(rows: apsw.Connection, name: str, keys: Sequence[str]) -> None:
    """Drop these keys; one that is not there is no error."""
    get_repository(rows, name)
    rows.executemany(
        "DELETE FROM repository_metadata WHERE repository = ? AND key = ?",
        [(name, key) for key in keys],
    )


def check_writable(
    rows: apsw.Connection, name: str, branch: str, *, force: bool = False
) -> Repository:
    """The repository, if staged data may be written. Raises: NotFound, Forbidden."""
    return _check_guard(rows, name, branch, WRITE_BLOCKED, force=force)


def check_committable(
    rows: apsw.Connection, name: str, branch: str, *, force: bool = False
) -> Repository:
    """The repository, if one may commit directly. Raises: NotFound, Forbidden."""
    return _check_guard(rows, name, branch, COMMIT_BLOCKED, force=force)


def check_changeable(rows: apsw.Connection, name: str, *, force: bool = False) -> Repository:
    """The repository, if refs may change. Raises: NotFound, Forbidden."""
    found = get_repository(rows, name)
    if found.read_only and not force:
        raise ReadOnly("read-only repository")
    return found


def compute_protection_version(found: Repository) -> str:
    """The ETag of the rules: empty where none were ever set."""
    return "" if found.protection is None else sha256(_to_text(found.protection)).hexdigest()


def set_protection(
    rows: apsw.Connection, name: str, patterns: Sequence[str], if_match: str | None
) -> None:
    """Replace the rules. Raises: PreconditionFailed if they are not those of `if_match`."""
    found = get_repository(rows, name)
    if if_match is not None and if_match != compute_protection_version(found):
        raise PreconditionFailed("Precondition failed")
    kept = tuple(dict.fromkeys(patterns))
    for pattern in kept:
        _compile_glob(pattern)
    rows.execute(
        "UPDATE repository SET protection = ? WHERE id = ?", (_to_text(kept).decode(), name)
    )


def is_protected(found: Repository, branch: str) -> bool:
    """Whether a rule covers this branch."""
    return any(_compile_glob(pattern).fullmatch(branch) for pattern in found.protection or ())


def _check_guard(
    rows: apsw.Connection, name: str, branch: str, problem: str, *, force: bool
) -> Repository:
    found = get_repository(rows, name)
    if is_protected(found, branch):
        raise Forbidden(problem)
    return check_changeable(rows, name, force=force)


def _check_namespace_free(rows: apsw.Connection, namespace: str) -> None:
    if fetch_first(rows, "SELECT 1 FROM repository WHERE namespace = ?", namespace):
        raise Refused(
            "failed to create repository: found lakeFS objects in the storage "
            f"(:{namespace}) key(_lakefs/dummy): storage namespace already in use"
        )


def _read_row(row: tuple[Any, ...]) -> Repository:
    rules = None if row[5] is None else tuple(json.loads(row[5]))
    return Repository(row[0], row[1], row[2], row[3], bool(row[4]), rules)


def _to_text(patterns: Sequence[str]) -> bytes:
    return json.dumps(sorted(patterns)).encode()


def _compile_glob(pattern: str) -> re.Pattern[str]:
    """The globs of branch protection: `*`, `?`, `[a-z]`, `[!a]`, `{one,two}`, `\\x`."""
    parts: list[str] = []
    for token in re.findall(r"\\.|\[!?[^\]]+\]|\*+|.", pattern, re.DOTALL):
        if token[0] == "\\" and len(token) == 2:
            parts.append(re.escape(token[1]))
        elif token[0] == "[" and len(token) > 1:
            parts.append(token.replace("[!", "[^", 1).replace("\\", r"\\"))
        else:
            parts.append(_GLOB.get(token[0], re.escape(token)))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise Refused(f"branch protection: {pattern!r} is not a pattern") from error


_GLOB = {"*": ".*", "?": ".", "{": "(?:", "}": ")", ",": "|"}
