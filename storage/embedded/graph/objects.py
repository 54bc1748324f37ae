"""Objects on branches and at commits: look up, list, stage, remove, diff."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from storage.embedded.errors import NoMergeBase, PreconditionFailed, Unsupported, name_failure
from storage.embedded.graph.commits import find_merge_base, get_commit
from storage.embedded.graph.diff import KeyDifference, compare, diff
from storage.embedded.graph.paging import Folded, KeyWindow, Page, group_keys, take_page
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.graph.refs import (
    BranchRow,
    Resolved,
    check_branch,
    check_path,
    check_ref,
    get_branch,
    resolve,
    resolve_commit,
)
from storage.embedded.graph.repositories import check_writable, get_repository
from storage.embedded.graph.staging import (
    diff_with_staged,
    find_visible,
    overlay,
    remove,
    scan_uncommitted,
    stage,
)
from storage.embedded.graph.tree import Item, find_key_behind
from storage.embedded.graph.version_graph import View
from storage.errors import NotFound

HOOKS = "_lakefs_actions/"
MAX_DELETED = 1000


def find_object(view: View, repository: str, ref: str, path: str) -> ObjectEntry:
    """The entry that `ref` shows at `path`. Raises: NotFound, Refused."""
    check_ref(ref)
    check_path(path)
    get_repository(view.rows, repository)
    found = resolve(view.rows, repository, ref)
    value = _find_visible(view, repository, found, path)
    if value is None:
        raise NotFound("not found")
    return value


def list_objects(view: View, repository: str, ref: str, window: KeyWindow) -> Page[Item | Folded]:
    """A page of what `ref` shows, in byte order."""
    check_ref(ref)
    get_repository(view.rows, repository)
    found = resolve(view.rows, repository, ref)
    tree = get_commit(view.rows, repository, found.commit).tree
    area = found.branch.area if found.branch else None
    walk = partial(overlay, view.rows, view.nodes, tree, area)
    found_keys = group_keys(walk, _get_key, window)
    return take_page(found_keys, window.amount)


def check_upload(
    view: View, repository: str, branch: str, path: str, *, force: bool, absent: bool
) -> None:
    """Refuse before any byte is taken what `put_object` would refuse after the last."""
    found = check_destination(view, repository, branch)
    check_path(path)
    check_writable(view.rows, repository, branch, force=force)
    if path.startswith(HOOKS):
        raise Unsupported(f"the embedded lakeFS runs no hooks, so it takes no {HOOKS} files")
    if absent and _find_on_branch(view, repository, found, path) is not None:
        raise PreconditionFailed("path already exists")


def check_destination(view: View, repository: str, branch: str) -> BranchRow:
    """The branch that an upload or a copy goes to. Raises: Refused, NotFound."""
    get_repository(view.rows, repository)
    check_branch(branch, argument="name")
    try:
        return get_branch(view.rows, repository, branch)
    except NotFound as error:
        raise NotFound(f"branch '{branch}' not found") from error


def put_object(
    view: View,
    repository: str,
    branch: str,
    path: str,
    value: ObjectEntry,
    *,
    force: bool = False,
    absent: bool = False,
) -> None:
    """Stage an entry; with `absent`, only if the branch shows nothing there."""
    check_upload(view, repository, branch, path, force=force, absent=absent)
    stage(view.rows, get_branch(view.rows, repository, branch).area, path, value)


def copy_object(
    view: View,
    source: tuple[str, str, str],
    target: tuple[str, str, str],
    *,
    force: bool = False,
    metadata: dict[str, str] | None = None,
) -> ObjectEntry:
    """Stage the entry of `source` at `target`, both (repository, ref, path)."""
    check_destination(view, *target[:2])
    found = find_object(view, *source)
    made = replace(found, modified_s=int(time.time()))
    if metadata is not None:
        made = made.with_metadata(metadata)
    put_object(view, *target, made, force=force)
    return made


def update_metadata(
    view: View, repository: str, branch: str, path: str, metadata: dict[str, str]
) -> None:
    """Replace the user metadata of the object that the branch shows."""
    check_branch(branch)
    check_path(path)
    check_writable(view.rows, repository, branch)
    found = get_branch(view.rows, repository, branch)
    value = _find_on_branch(view, repository, found, path)
    if value is None:
        where = f"{repository}/{branch}/{path}"
        raise NotFound(f"update user metadata on {where}: not found")
    stage(view.rows, found.area, path, value.with_metadata(metadata))


def delete_objects(
    view: View, repository: str, branch: str, paths: Sequence[str], *, force: bool = False
) -> None:
    """Remove what is there of `paths`; a path with nothing there is no error."""
    check_branch(branch)
    for path in paths:
        check_path(path)
    check_writable(view.rows, repository, branch, force=force)
    found = get_branch(view.rows, repository, branch)
    tree = get_commit(view.rows, repository, found.head).tree
    for path in paths:
        remove(view.rows, view.nodes, tree, found.area, path)


def diff_uncommitted(
    view: View, repository: str, branch: str, window: KeyWindow
) -> Page[KeyDifference | Folded]:
    """A page of what a commit on `branch` would record."""
    check_branch(branch)
    get_repository(view.rows, repository)
    found = get_branch(view.rows, repository, branch)
    tree = get_commit(view.rows, repository, found.head).tree
    return _take_diff_page(
        partial(scan_uncommitted, view.rows, view.nodes, tree, found.area), window
    )


def diff_two_dot(
    view: View, repository: str, left: str, right: str, window: KeyWindow
) -> Page[KeyDifference | Folded]:
    """A page of what changes from `left` to `right`; `right` may be a staging area (`main$`)."""
    check_ref(left, argument="left")
    check_ref(right, argument="right")
    get_repository(view.rows, repository)
    before = _find_tree(view, repository, resolve_commit(view.rows, repository, left))
    found = resolve(view.rows, repository, right)
    after = _find_tree(view, repository, found.commit)
    if found.staging_only and found.branch:
        area = found.branch.area
        walk = partial(diff_with_staged, view.rows, view.nodes, before, after, area)
    else:
        walk = partial(diff, view.nodes, before, after)
    return _take_diff_page(walk, window)


def diff_three_dot(
    view: View, repository: str, left: str, right: str, window: KeyWindow
) -> Page[KeyDifference | Folded]:
    """A page of what merging `right` into `left` would change."""
    check_ref(left, argument="left")
    check_ref(right, argument="right")
    base, source, target = find_merge_points(view, repository, source=right, target=left)
    trees = [_find_tree(view, repository, commit) for commit in (base, source, target)]
    return _take_diff_page(partial(compare, view.nodes, *trees), window)


def find_merge_points(
    view: View, repository: str, *, source: str, target: str
) -> tuple[str, str, str]:
    """The commits of the merge base, the source and the target. Raises: NoMergeBase."""
    get_repository(view.rows, repository)
    with name_failure(f"get commit by ref {source}"):
        theirs = resolve_commit(view.rows, repository, source)
    with name_failure(f"get commit by branch {target}"):
        ours = resolve_commit(view.rows, repository, target)
    base = find_merge_base(view.rows, repository, theirs, ours)
    if base is None:
        raise NoMergeBase("no merge base")
    return base, theirs, ours


def _find_on_branch(
    view: View, repository: str, branch: BranchRow, path: str
) -> ObjectEntry | None:
    return _find_visible(view, repository, Resolved(branch.head, branch), path)


def _find_visible(view: View, repository: str, found: Resolved, path: str) -> ObjectEntry | None:
    tree = _find_tree(view, repository, found.commit)
    area = found.branch.area if found.branch else None
    return find_visible(view.rows, view.nodes, tree, area, path)


def _find_tree(view: View, repository: str, commit: str) -> str:
    return get_commit(view.rows, repository, commit).tree


def _take_diff_page(
    walk: Callable[[str], Iterator[KeyDifference]], window: KeyWindow
) -> Page[KeyDifference | Folded]:
    start = window.after
    if window.delimiter and start.endswith(window.delimiter):
        start = find_key_behind(start) or start
    found = group_keys(lambda at: walk(max(at, start)), _get_changed_key, window)
    return take_page(found, window.amount)


def _get_key(item: Item) -> str:
    return item[0]


def _get_changed_key(found: KeyDifference) -> str:
    return found.key
