"""Commits, merges, reverts, the log and diffs over REST."""

import re
from datetime import datetime
from typing import Any

from pydantic import Field
from starlette.responses import Response

from storage.embedded.errors import MergeConflict
from storage.embedded.graph import commit_log, heads, objects
from storage.embedded.graph.commit_log import LogQuery
from storage.embedded.graph.commits import NS, StoredCommit, get_commit
from storage.embedded.graph.diff import KeyDifference, Kind
from storage.embedded.graph.heads import Message
from storage.embedded.graph.paging import Folded
from storage.embedded.graph.refs import resolve_commit
from storage.embedded.graph.repositories import get_repository
from storage.embedded.graph.version_graph import View
from storage.embedded.http.calls import Body, Call, reply, reply_empty, reply_page
from storage.errors import NotFound, Refused

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_DIFFS = {"two_dot": objects.diff_two_dot, "three_dot": objects.diff_three_dot}


class CommitCreation(Body):
    """What is said of a commit."""

    message: str
    metadata: dict[str, str] = Field(default_factory=dict)
    date: int | None = None
    allow_empty: bool = False
    force: bool = False


class Merge(Body):
    """How to merge."""

    message: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    strategy: str | None = None
    force: bool = False
    allow_empty: bool = False
    squash_merge: bool = False


class CommitOverrides(Body):
    """What a revert says instead of its default."""

    message: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)


class Revert(Body):
    """What to undo."""

    ref: str
    parent_number: int
    commit_overrides: CommitOverrides | None = None
    force: bool = False
    allow_empty: bool = False


async def commit(call: Call) -> Response:
    """Commit what is staged."""
    call.refuse("source_metarange")
    body = await call.body(CommitCreation)
    message = Message(
        call.user, body.message, body.metadata, body.date, body.allow_empty, body.force
    )
    commit_id, made = await call.change_head(
        heads.commit, call.path("repository"), call.path("branch"), message
    )
    return reply(_show_commit(commit_id, made), 201)


async def read(call: Call) -> Response:
    """The commit that a ref expression stands for."""
    found = await call.read(_read_commit, call.path("repository"), call.path("commit"))
    return reply(_show_commit(*found))


async def read_log(call: Call) -> Response:
    """A page of the log."""
    query = LogQuery(
        amount=call.amount(),
        after=call.text("after"),
        objects=call.texts("objects"),
        prefixes=call.texts("prefixes"),
        limit=call.flag("limit"),
        first_parent=call.flag("first_parent"),
        since_ns=_parse_time_ns(call.text("since")),
        stop_at=call.text("stop_at"),
    )
    found = await call.read(commit_log.read_log, call.path("repository"), call.path("ref"), query)
    results = [_show_commit(*item) for item in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="id")


async def merge(call: Call) -> Response:
    """Merge a ref into a branch."""
    body = await call.body(Merge)
    message = Message(
        call.user,
        body.message or "",
        body.metadata,
        allow_empty=body.allow_empty,
        force=body.force,
    )
    try:
        reference = await call.change_head(
            heads.merge,
            call.path("repository"),
            call.path("ref"),
            call.path("branch"),
            message,
            strategy=body.strategy or "",
            squash=body.squash_merge,
        )
    except MergeConflict:
        return reply({"reference": ""}, 409)
    return reply({"reference": reference})


async def find_merge_base(call: Call) -> Response:
    """The common ancestor a merge would start from; source and destination as lakeFS has them.

    It answers with the commit of the branch as the source and that of the ref as the destination.
    """
    base, source, target = await call.read(
        objects.find_merge_points,
        call.path("repository"),
        source=call.path("branch"),
        target=call.path("ref"),
    )
    return reply(
        {
            "base_commit_id": base,
            "destination_commit_id": target,
            "source_commit_id": source,
        }
    )


async def revert(call: Call) -> Response:
    """Undo a commit in a new one."""
    body = await call.body(Revert)
    overrides = body.commit_overrides or CommitOverrides()
    message = Message(
        call.user,
        overrides.message or f"Revert {body.ref}",
        overrides.metadata,
        allow_empty=body.allow_empty,
        force=body.force,
    )
    await call.change_head(
        heads.revert,
        call.path("repository"),
        call.path("branch"),
        body.ref,
        message,
        parent_number=body.parent_number,
    )
    return reply_empty()


async def diff_branch(call: Call) -> Response:
    """A page of uncommitted changes."""
    found = await call.read(
        objects.diff_uncommitted, call.path("repository"), call.path("branch"), call.window()
    )
    results = [_show_uncommitted(item) for item in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="path")


async def diff_refs(call: Call) -> Response:
    """A page of what changes between two refs; three dots unless two are asked for."""
    kind = call.text("type", "three_dot")
    if kind not in _DIFFS:
        raise Refused(f'parameter "type" in query has an error: {kind!r} is no kind of diff')
    found = await call.read(
        _DIFFS[kind],
        call.path("repository"),
        call.path("left"),
        call.path("right"),
        call.window(),
    )
    right_stats = call.flag("include_right_stats")
    results = [_show_difference(item, right_stats=right_stats) for item in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="path")


def _read_commit(view: View, repository: str, ref: str) -> tuple[str, StoredCommit]:
    get_repository(view.rows, repository)
    try:
        commit_id = resolve_commit(view.rows, repository, ref)
    except NotFound as error:
        raise NotFound("commit not found") from error
    return commit_id, get_commit(view.rows, repository, commit_id)


def _parse_time_ns(text: str) -> int | None:
    if not text:
        return None
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"Invalid format for parameter since: {text!r} is not RFC 3339") from error
    return int(moment.timestamp() * NS)


def _show_commit(commit_id: str, found: StoredCommit) -> dict[str, Any]:
    return {
        "committer": found.committer,
        "creation_date": found.created_s,
        "generation": found.generation,
        "id": commit_id,
        "message": found.message,
        "meta_range_id": found.tree,
        "metadata": found.metadata,
        "parents": list(found.parents),
        "version": 1,
    }


def _show_uncommitted(item: KeyDifference | Folded) -> dict[str, Any]:
    """One uncommitted change; lakeFS does not know the size of what a tombstone removed."""
    shown = _show_difference(item, right_stats=False)
    return {**shown, "size_bytes": 0} if shown["type"] == Kind.REMOVED.value else shown


def _show_difference(item: KeyDifference | Folded, *, right_stats: bool) -> dict[str, Any]:
    if isinstance(item, Folded):
        return {"path": item.prefix, "path_type": "common_prefix", "type": "prefix_changed"}
    shown: dict[str, Any] = {
        "path": item.key,
        "path_type": "object",
        "size_bytes": (item.after.size if item.after else item.before.size if item.before else 0),
        "type": item.kind.value,
    }
    # Of what was removed lakeFS shows the left side here.
    entry = item.after or item.before
    if right_stats and entry is not None:
        shown["right"] = {
            "checksum": entry.etag,
            "content_type": entry.content_type,
            "metadata": entry.metadata,
            "mtime": entry.modified_s,
        }
    return shown


ROUTES = [
    ("POST", "/repositories/{repository}/branches/{branch}/commits", commit),
    ("POST", "/repositories/{repository}/branches/{branch}/revert", revert),
    ("GET", "/repositories/{repository}/branches/{branch}/diff", diff_branch),
    ("GET", "/repositories/{repository}/commits/{commit}", read),
    ("GET", "/repositories/{repository}/refs/{ref}/commits", read_log),
    ("POST", "/repositories/{repository}/refs/{ref}/merge/{branch}", merge),
    ("GET", "/repositories/{repository}/refs/{ref}/merge/{branch}", find_merge_base),
    ("GET", "/repositories/{repository}/refs/{left}/diff/{right}", diff_refs),
]
