"""Branches and tags: made, listed, deleted, reset."""

from typing import Literal

import apsw

from storage.embedded.errors import Exists, name_failure
from storage.embedded.graph.commits import find_commit
from storage.embedded.graph.paging import Page, take_page
from storage.embedded.graph.refs import (
    BranchRow,
    check_branch,
    check_path,
    check_ref,
    check_tag,
    find_branch,
    find_tag,
    get_branch,
    resolve,
    resolve_commit,
)
from storage.embedded.graph.repositories import check_changeable, check_writable, get_repository
from storage.embedded.graph.staging import drop, make_area, reset, reset_key
from storage.embedded.graph.version_graph import View
from storage.embedded.sqlite import fetch_all
from storage.errors import Conflict, Forbidden, NotFound, Refused

BRANCH_RULE = "branch id must consist of letters, digits, underscores and dashes, and cannot start"
Reset = Literal["reset", "common_prefix", "object"]


def create_branch(
    view: View, repository: str, name: str, source: str, *, hidden: bool, force: bool
) -> str:
    """Point a new branch at what `source` stands for, in constant time; the commit's id."""
    try:
        check_branch(name)
    except Refused as error:
        raise Refused(f"{error}: {BRANCH_RULE} with a dash") if name else error from None
    check_ref(source)
    get_repository(view.rows, repository)
    _check_no_commit(view.rows, repository, name)
    if find_tag(view.rows, repository, name):
        raise Conflict(f"tag ID {name}: conflict found")
    check_changeable(view.rows, repository, force=force)
    head = _resolve_source(view.rows, repository, source)
    if find_branch(view.rows, repository, name):
        raise Exists("branch already exists: not unique")
    view.rows.execute(
        "INSERT INTO branch VALUES (?, ?, ?, ?, ?)",
        (repository, name, head, hidden, make_area(view.rows)),
    )
    return head


def read_branch(view: View, repository: str, name: str) -> BranchRow:
    """Raises: Refused, NotFound."""
    check_branch(name)
    get_repository(view.rows, repository)
    return get_branch(view.rows, repository, name)


def list_branches(
    view: View,
    repository: str,
    *,
    prefix: str = "",
    after: str = "",
    amount: int,
    show_hidden: bool = False,
) -> Page[BranchRow]:
    """A page of branches by name."""
    get_repository(view.rows, repository)
    found = fetch_all(
        view.rows,
        "SELECT name, head, staging, hidden FROM branch WHERE repository = ?"
        " AND name >= ? AND name > ? AND (? OR NOT hidden) ORDER BY name",
        *(repository, prefix, after, show_hidden),
    )
    fitting = (
        BranchRow(row[0], row[1], row[2], bool(row[3]))
        for row in found
        if row[0].startswith(prefix)
    )
    return take_page(fitting, amount)


def delete_branch(view: View, repository: str, name: str, *, force: bool) -> None:
    """Drop the branch and what was staged on it."""
    check_branch(name, argument="name")
    if check_changeable(view.rows, repository, force=force).default_branch == name:
        raise Forbidden("cannot delete repository default branch")
    branch = get_branch(view.rows, repository, name)
    drop(view.rows, branch.area)
    view.rows.execute("DELETE FROM branch WHERE repository = ? AND name = ?", (repository, name))


def reset_branch(
    view: View, repository: str, name: str, kind: Reset, path: str, *, force: bool
) -> None:
    """Forget uncommitted changes: all, those under a prefix, or one."""
    check_branch(name)
    if kind == "object":
        check_path(path)
    check_writable(view.rows, repository, name, force=force)
    if kind == "object":
        with name_failure("getting branch"):
            area = get_branch(view.rows, repository, name).area
        reset_key(view.rows, area, path)
    else:
        area = get_branch(view.rows, repository, name).area
        reset(view.rows, area, path if kind == "common_prefix" else "")


def create_tag(view: View, repository: str, name: str, source: str, *, force: bool) -> str:
    """Name a commit for good; its id."""
    check_tag(name)
    get_repository(view.rows, repository)
    if find_branch(view.rows, repository, name):
        raise Conflict(f"branch name {name}: conflict found")
    _check_no_commit(view.rows, repository, name)
    target = resolve_commit(view.rows, repository, source)
    check_changeable(view.rows, repository, force=force)
    if find_tag(view.rows, repository, name):
        raise Exists("tag already exists: not unique")
    view.rows.execute("INSERT INTO tag VALUES (?, ?, ?)", (repository, name, target))
    return target


def read_tag(view: View, repository: str, name: str) -> str:
    """The tagged commit. Raises: Refused, NotFound."""
    check_tag(name)
    get_repository(view.rows, repository)
    target = find_tag(view.rows, repository, name)
    if target is None:
        raise NotFound("tag not found")
    return target


def list_tags(
    view: View, repository: str, *, prefix: str = "", after: str = "", amount: int
) -> Page[tuple[str, str]]:
    """A page of tags by name, each with its commit."""
    get_repository(view.rows, repository)
    found = fetch_all(
        view.rows,
        "SELECT name, target FROM tag WHERE repository = ? AND name >= ? AND name > ?"
        " ORDER BY name",
        *(repository, prefix, after),
    )
    return take_page(((row[0], row[1]) for row in found if row[0].startswith(prefix)), amount)


def delete_tag(view: View, repository: str, name: str, *, force: bool) -> None:
    """Drop the name; the commit stays."""
    read_tag(view, repository, name)
    check_changeable(view.rows, repository, force=force)
    view.rows.execute("DELETE FROM tag WHERE repository = ? AND name = ?", (repository, name))


def _resolve_source(rows: apsw.Connection, repository: str, source: str) -> str:
    try:
        found = resolve(rows, repository, source)
    except (NotFound, Refused) as error:
        raise type(error)(f"source reference '{source}': {error}") from error
    if found.staging_only:
        raise Refused(f"source reference '{source}': can't create a branch without commit")
    return found.commit


def _check_no_commit(rows: apsw.Connection, repository: str, name: str) -> None:
    if find_commit(rows, repository, name):
        raise Conflict(f"commit ID {name}: conflict found")
