"""What moves a branch's head: commit, merge, revert, hard reset.

Each computes its tree from a snapshot, outside any write transaction, then publishes in one
short one that requires the head, and what is staged, to be as they were. A large commit or
merge therefore stalls nobody, and no reader ever sees half of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from storage.embedded.errors import Contended, name_failure
from storage.embedded.graph.commits import (
    NS,
    StoredCommit,
    add_commit,
    get_commit,
    now_ns,
    walk_log,
)
from storage.embedded.graph.diff import is_same, plan_merge
from storage.embedded.graph.objects import find_merge_points
from storage.embedded.graph.refs import (
    BranchRow,
    check_branch,
    check_ref,
    get_branch,
    resolve_commit,
)
from storage.embedded.graph.repositories import check_changeable, check_committable, check_writable
from storage.embedded.graph.staging import drop, find_newest, read_staged, scan_uncommitted
from storage.embedded.graph.tree import edit_tree, get, is_same_tree
from storage.embedded.graph.version_graph import VersionGraph, View, store_nodes
from storage.errors import Conflict, Refused

TRIES = 10
NO_CHANGES = "no changes"
DIRTY = "uncommitted changes (dirty branch)"
STRATEGY_KEY = ".lakefs.merge.strategy"
STRATEGIES = {"": "default", "source-wins": "source-wins", "dest-wins": "dest-wins"}


@dataclass(frozen=True, slots=True)
class Message:
    """What the author says of a commit."""

    committer: str
    text: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    date_s: int | None = None
    allow_empty: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A commit worked out on a snapshot, ready to publish."""

    branch: BranchRow
    commit: StoredCommit
    nodes: Mapping[str, bytes]
    staged_upto: int
    keep_newer: bool
    """Whether writes staged since the snapshot may stay; else they make the branch dirty."""


def commit(
    graph: VersionGraph, repository: str, branch: str, message: Message
) -> tuple[str, StoredCommit]:
    """Commit what is staged on `branch`. Raises: Refused if that is nothing, Forbidden."""
    check_branch(branch)

    def plan(view: View) -> Planned:
        check_committable(view.rows, repository, branch, force=message.force)
        found = get_branch(view.rows, repository, branch)
        head = get_commit(view.rows, repository, found.head)
        staged = read_staged(view.rows, found.area)
        effective = [
            (key, value)
            for key, value in staged.edits
            if not is_same(get(view.nodes, head.tree, key), value)
        ]
        if not effective and not message.allow_empty:
            raise Refused(f"commit: {NO_CHANGES}")
        tree = edit_tree(view.nodes, head.tree, effective)
        made = _make_commit(message, [found.head], tree, head.generation)
        return Planned(found, made, view.nodes.made, staged.upto, keep_newer=True)

    return _publish(graph, repository, branch, plan)


def merge(
    graph: VersionGraph,
    repository: str,
    source: str,
    destination: str,
    message: Message,
    *,
    strategy: str = "",
    squash: bool = False,
) -> str:
    """Merge into a branch; the new commit's id. Raises: MergeConflict, Refused, NotFound."""
    check_branch(destination, argument="destination")
    check_ref(source, argument="source")
    if strategy not in STRATEGIES:
        raise Refused("argument strategy: invalid value: validation error")
    metadata = {**message.metadata, STRATEGY_KEY: STRATEGIES[strategy]}
    text = message.text or f"Merge '{source}' into '{destination}'"
    told = replace(message, text=text, metadata=metadata)

    def plan(view: View) -> Planned:
        check_changeable(view.rows, repository, force=message.force)
        found, upto = _require_clean(view, repository, destination)
        with name_failure(f"update branch {destination}"):
            base_id, theirs_id, ours_id = find_merge_points(
                view, repository, source=source, target=destination
            )
        base, theirs, ours = (
            get_commit(view.rows, repository, commit_id)
            for commit_id in (base_id, theirs_id, ours_id)
        )
        unchanged = is_same_tree(view.nodes, theirs.tree, base.tree)
        if unchanged and not _is_newly_empty(view, repository, base_id, theirs_id):
            _refuse_unchanged(destination, message)
        tree = _merge_trees(view, base.tree, theirs.tree, ours.tree, strategy)
        parents = [ours_id] if squash else [ours_id, theirs_id]
        made = _make_commit(told, parents, tree, max(ours.generation, theirs.generation))
        return Planned(found, made, view.nodes.made, upto, keep_newer=False)

    return _publish(graph, repository, destination, plan)[0]


def revert(
    graph: VersionGraph,
    repository: str,
    branch: str,
    ref: str,
    message: Message,
    *,
    parent_number: int,
) -> str:
    """Undo what `ref` changed against its parent, in a new commit on `branch`."""
    check_branch(branch)
    check_ref(ref)
    if parent_number < 0:
        raise Refused("argument parentNumber: invalid value: validation error")

    def plan(view: View) -> Planned:
        check_changeable(view.rows, repository, force=message.force)
        with name_failure(f"get commit from ref {ref}"):
            undone_id = resolve_commit(view.rows, repository, ref)
        undone = get_commit(view.rows, repository, undone_id)
        parent = _find_parent(undone, parent_number)
        found, upto = _require_clean(view, repository, branch)
        head = get_commit(view.rows, repository, found.head)
        before = get_commit(view.rows, repository, parent).tree if parent else ""
        if is_same_tree(view.nodes, before, undone.tree) and not message.allow_empty:
            raise Refused(f"update branch: {NO_CHANGES}")
        with name_failure("update branch"):
            tree = _merge_trees(view, undone.tree, before, head.tree, "")
        if is_same_tree(view.nodes, tree, head.tree) and not message.allow_empty:
            raise Refused(f"update branch: {NO_CHANGES}")
        made = _make_commit(message, [found.head], tree, head.generation)
        return Planned(found, made, view.nodes.made, upto, keep_newer=False)

    return _publish(graph, repository, branch, plan)[0]


def hard_reset(graph: VersionGraph, repository: str, branch: str, ref: str, *, force: bool) -> None:
    """Point a clean branch at another commit."""
    check_branch(branch)
    check_ref(ref)

    def job(view: View) -> None:
        check_committable(view.rows, repository, branch, force=force)
        check_writable(view.rows, repository, branch, force=force)
        found, _ = _require_clean(view, repository, branch)
        with name_failure(f"hard-reset {branch} to {ref}"):
            target = resolve_commit(view.rows, repository, ref)
        drop(view.rows, found.area)
        _move(view, repository, branch, target)

    with graph.turn(repository, branch):
        graph.write(job)


def _publish(
    graph: VersionGraph, repository: str, branch: str, plan: Callable[[View], Planned]
) -> tuple[str, StoredCommit]:
    with graph.turn(repository, branch), graph.publishing.share():
        for _ in range(TRIES):
            planned = graph.read(plan)
            if graph.write(lambda view, it=planned: _apply(view, repository, it)):  # type: ignore[misc]
                return planned.commit.id, planned.commit
    raise Contended("Too many attempts, try again later")


def _apply(view: View, repository: str, planned: Planned) -> bool:
    """Publish if the branch is as the plan found it; whether it was."""
    found = get_branch(view.rows, repository, planned.branch.name)
    if (found.head, found.area) != (planned.branch.head, planned.branch.area):
        return False
    if not planned.keep_newer and find_newest(view.rows, found.area) > planned.staged_upto:
        return False
    store_nodes(view, planned.nodes)
    drop(view.rows, found.area, planned.staged_upto)
    _move(view, repository, found.name, add_commit(view.rows, repository, planned.commit))
    return True


def _move(view: View, repository: str, branch: str, head: str) -> None:
    view.rows.execute(
        "UPDATE branch SET head = ? WHERE repository = ? AND name = ?", (head, repository, branch)
    )


def _require_clean(view: View, repository: str, branch: str) -> tuple[BranchRow, int]:
    """The branch and its newest staged version. Raises: Refused if it has uncommitted changes."""
    found = get_branch(view.rows, repository, branch)
    tree = get_commit(view.rows, repository, found.head).tree
    if next(scan_uncommitted(view.rows, view.nodes, tree, found.area), None):
        raise Refused(DIRTY)
    return found, find_newest(view.rows, found.area)


def _refuse_unchanged(destination: str, message: Message) -> None:
    if not (message.allow_empty or message.force):
        raise Refused(f"update branch {destination}: {NO_CHANGES}")


def _is_newly_empty(view: View, repository: str, base: str, commit: str) -> bool:
    """Whether there were objects between the two and all are deleted again.

    To lakeFS that is not the empty tree of a new repository: it merges, and changes nothing.
    """
    return _is_emptied(view, repository, commit) and not _is_emptied(view, repository, base)


def _is_emptied(view: View, repository: str, commit: str) -> bool:
    commits = walk_log(view.rows, repository, commit)
    return not next(commits)[1].tree and any(found.tree for _, found in commits)


def _merge_trees(view: View, base: str, source: str, target: str, strategy: str) -> str:
    if target == base:
        return source
    return edit_tree(
        view.nodes, target, plan_merge(view.nodes, base, source, target, strategy or None)
    )


def _make_commit(
    message: Message, parents: Sequence[str], tree: str, generation: int
) -> StoredCommit:
    created_ns = now_ns() if message.date_s is None else message.date_s * NS
    return StoredCommit(
        committer=message.committer,
        created_ns=created_ns,
        generation=generation + 1,
        message=message.text,
        metadata=dict(message.metadata),
        parents=tuple(parents),
        tree=tree,
    )


def _find_parent(undone: StoredCommit, number: int) -> str:
    if len(undone.parents) > 1 and number == 0:
        raise Conflict("must specify 1-based parent number for reverting merge commit")
    if number > len(undone.parents):
        raise Refused(f"given commit does not have the given parent number: parent {number}")
    return undone.parents[max(number - 1, 0)] if undone.parents else ""
