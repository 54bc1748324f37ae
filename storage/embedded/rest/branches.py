"""Branches and tags over REST."""

from typing import Literal

from starlette.responses import PlainTextResponse, Response

from storage.embedded.graph import branches, heads
from storage.embedded.http.calls import Body, Call, reply, reply_empty, reply_page


class BranchCreation(Body):
    """A new branch."""

    name: str
    source: str
    force: bool = False
    hidden: bool = False


class BranchReset(Body):
    """What uncommitted data to forget."""

    type: Literal["object", "common_prefix", "reset"]
    path: str = ""
    force: bool = False


class TagCreation(Body):
    """A new tag."""

    id: str
    ref: str
    force: bool = False


async def create(call: Call) -> Response:
    """A branch at what `source` stands for."""
    body = await call.body(BranchCreation)
    head = await call.write(
        branches.create_branch,
        call.path("repository"),
        body.name,
        body.source,
        hidden=body.hidden,
        force=body.force,
    )
    return PlainTextResponse(head, 201)


async def read(call: Call) -> Response:
    """One branch."""
    found = await call.read(branches.read_branch, call.path("repository"), call.path("branch"))
    return reply({"commit_id": found.head, "id": found.name})


async def list_all(call: Call) -> Response:
    """A page of branches."""
    found = await call.read(
        branches.list_branches,
        call.path("repository"),
        prefix=call.text("prefix"),
        after=call.text("after"),
        amount=call.amount(),
        show_hidden=call.flag("show_hidden"),
    )
    results = [{"commit_id": branch.head, "id": branch.name} for branch in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="id")


async def delete(call: Call) -> Response:
    """Gone, with what was staged on it."""
    await call.write(
        branches.delete_branch,
        call.path("repository"),
        call.path("branch"),
        force=call.flag("force"),
    )
    return reply_empty()


async def reset(call: Call) -> Response:
    """Forget uncommitted data."""
    body = await call.body(BranchReset)
    await call.write(
        branches.reset_branch,
        call.path("repository"),
        call.path("branch"),
        body.type,
        body.path,
        force=body.force,
    )
    return reply_empty()


async def hard_reset(call: Call) -> Response:
    """Point the branch at another commit."""
    await call.change_head(
        heads.hard_reset,
        call.path("repository"),
        call.path("branch"),
        call.require("ref"),
        force=call.flag("force"),
    )
    return reply_empty()


async def create_tag(call: Call) -> Response:
    """Name a commit."""
    body = await call.body(TagCreation)
    target = await call.write(
        branches.create_tag, call.path("repository"), body.id, body.ref, force=body.force
    )
    return reply({"commit_id": target, "id": body.id}, 201)


async def read_tag(call: Call) -> Response:
    """One tag."""
    name = call.path("tag")
    target = await call.read(branches.read_tag, call.path("repository"), name)
    return reply({"commit_id": target, "id": name})


async def list_tags(call: Call) -> Response:
    """A page of tags."""
    found = await call.read(
        branches.list_tags,
        call.path("repository"),
        prefix=call.text("prefix"),
        after=call.text("after"),
        amount=call.amount(),
    )
    results = [{"commit_id": target, "id": name} for name, target in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="id")


async def delete_tag(call: Call) -> Response:
    """Drop the name."""
    await call.write(
        branches.delete_tag, call.path("repository"), call.path("tag"), force=call.flag("force")
    )
    return reply_empty()


ROUTES = [
    ("GET", "/repositories/{repository}/branches", list_all),
    ("POST", "/repositories/{repository}/branches", create),
    ("GET", "/repositories/{repository}/branches/{branch}", read),
    ("PUT", "/repositories/{repository}/branches/{branch}", reset),
    ("DELETE", "/repositories/{repository}/branches/{branch}", delete),
    ("PUT", "/repositories/{repository}/branches/{branch}/hard_reset", hard_reset),
    ("GET", "/repositories/{repository}/tags", list_tags),
    ("POST", "/repositories/{repository}/tags", create_tag),
    ("GET", "/repositories/{repository}/tags/{tag}", read_tag),
    ("DELETE", "/repositories/{repository}/tags/{tag}", delete_tag),
]
