"""The log of a ref: which commits, in which order, touching which objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from storage.embedded.graph.commits import StoredCommit, get_commit, walk_log
from storage.embedded.graph.diff import diff, is_same
from storage.embedded.graph.paging import Page, take_page
from storage.embedded.graph.refs import check_ref, resolve_commit
from storage.embedded.graph.repositories import get_repository
from storage.embedded.graph.tree import get
from storage.embedded.graph.version_graph import View
from storage.errors import NotFound, Refused


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which commits of a log to show."""

    amount: int
    after: str = ""
    objects: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    limit: bool = False
    first_parent: bool = False
    since_ns: int | None = None
    stop_at: str = ""


def read_log(
    view: View, repository: str, ref: str, query: LogQuery
) -> Page[tuple[str, StoredCommit]]:
    """A page of the log of `ref`, newest first."""
    check_ref(ref)
    get_repository(view.rows, repository)
    head = _resolve_named(view, repository, ref, "ref")
    stop_at = _resolve_named(view, repository, query.stop_at, "stop_at") if query.stop_at else ""
    after = _resolve_named(view, repository, query.after, "from ref") if query.after else ""
    walk = walk_log(
        view.rows, repository, head, first_parent=query.first_parent, since_ns=query.since_ns
    )
    if after:
        for commit_id, _ in walk:
            if commit_id == after:
                break
    if query.objects or query.prefixes:
        walk = (item for item in walk if _does_touch(view, repository, item[1], query))
    found = take_page(_stop_behind(walk, stop_at), query.amount)
    return replace(found, has_more=False) if query.limit else found


def _resolve_named(view: View, repository: str, ref: str, what: str) -> str:
    try:
        return resolve_commit(view.rows, repository, ref)
    except (NotFound, Refused) as error:
        raise type(error)(f"{what}: {error}") from error


def _stop_behind(
    walk: Iterator[tuple[str, StoredCommit]], stop_at: str
) -> Iterator[tuple[str, StoredCommit]]:
    for item in walk:
        yield item
        if item[0] == stop_at:
            return


def _does_touch(view: View, repository: str, found: StoredCommit, query: LogQuery) -> bool:
    """Whether a commit, merges apart, changed one of the objects or prefixes asked for."""
    if len(found.parents) != 1:
        return False
    before = get_commit(view.rows, repository, found.parents[0]).tree
    changed = (
        not is_same(get(view.nodes, before, key), get(view.nodes, found.tree, key))
        for key in query.objects
    )
    return any(changed) or any(
        _changes_under(view, before, found.tree, prefix) for prefix in query.prefixes
    )


def _changes_under(view: View, before: str, after: str, prefix: str) -> bool:
    first = next(diff(view.nodes, before, after, prefix), None)
    return first is not None and first.key.startswith(prefix)
