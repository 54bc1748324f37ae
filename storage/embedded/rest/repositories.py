"""Repositories and their branch protection over REST."""

from typing import Any

from pydantic import Field, RootModel, ValidationError
from starlette.responses import Response

from storage.embedded.errors import Unsupported
from storage.embedded.graph import repositories
from storage.embedded.graph.paging import Page
from storage.embedded.graph.repositories import Repository
from storage.embedded.graph.version_graph import View
from storage.embedded.http.calls import (
    MAX_JSON_BYTES,
    Body,
    Call,
    reply,
    reply_empty,
    reply_page,
)
from storage.embedded.http.transfer import read_limited
from storage.embedded.keys.access_keys import Right
from storage.errors import Refused


class RepositoryCreation(Body):
    """What a new repository is."""

    name: str
    storage_namespace: str
    storage_id: str = ""
    default_branch: str = "main"
    sample_data: bool = False
    read_only: bool = False


class MetadataSet(Body):
    """What to note about a repository."""

    metadata: dict[str, str]


class MetadataKeys(Body):
    """What to drop of it."""

    keys: list[str]


class ProtectionRule(Body):
    """One pattern of protected branches."""

    pattern: str = Field(min_length=1)


class ProtectionRules(RootModel[list[ProtectionRule]]):
    """All of them."""


async def create(call: Call) -> Response:
    """A new repository."""
    call.refuse("bare")
    body = await call.body(RepositoryCreation)
    if body.storage_id:
        raise Refused("storage id: invalid value: validation error")
    if body.sample_data:
        raise Unsupported("the embedded lakeFS has no sample data")
    call.check_repository(Right.WRITE, body.name)
    made = await call.write(_create, body)
    return reply(_show_repository(made), 201)


async def read(call: Call) -> Response:
    """One repository."""
    return reply(_show_repository(await call.read(_get, call.path("repository"))))


async def list_all(call: Call) -> Response:
    """A page of repositories."""
    found = await call.read(_list, call)
    results = [_show_repository(repository) for repository in found.results]
    return reply_page(results, has_more=found.has_more, offset_key="id")


async def delete(call: Call) -> Response:
    """Gone with all its refs."""
    await call.write(_delete, call.path("repository"), force=call.flag("force"))
    return reply_empty()


async def read_metadata(call: Call) -> Response:
    """What people noted about a repository."""
    return reply(await call.read(_read_metadata, call.path("repository")))


async def set_metadata(call: Call) -> Response:
    """Note more of it."""
    body = await call.body(MetadataSet)
    await call.write(_set_metadata, call.path("repository"), body.metadata)
    return reply_empty()


async def delete_metadata(call: Call) -> Response:
    """Drop some of it."""
    body = await call.body(MetadataKeys)
    await call.write(_delete_metadata, call.path("repository"), body.keys)
    return reply_empty()


async def allowed(_: Call) -> Response:
    """Whether the key may change the rules: it may, or it would not have come this far."""
    return reply_empty()


async def read_protection(call: Call) -> Response:
    """The rules, with an ETag to change them safely."""
    found = await call.read(_get, call.path("repository"))
    rules = [{"pattern": pattern} for pattern in found.protection or ()]
    return reply(rules, ETag=repositories.compute_protection_version(found))


async def set_protection(call: Call) -> Response:
    """All rules at once, if they are still those of If-Match."""
    raw = await read_limited(call.request.stream(), MAX_JSON_BYTES)
    try:
        rules = ProtectionRules.model_validate_json(raw)
    except ValidationError as error:
        raise Refused("request body has an error: not a list of patterns") from error
    patterns = [rule.pattern for rule in rules.root]
    await call.write(_protect, call.path("repository"), patterns, call.header("If-Match"))
    return reply_empty()


def _create(view: View, body: RepositoryCreation) -> Repository:
    return repositories.create_repository(
        view.rows,
        body.name,
        body.storage_namespace,
        body.default_branch or "main",
        read_only=body.read_only,
    )


def _get(view: View, name: str) -> Repository:
    return repositories.get_repository(view.rows, name)


def _list(view: View, call: Call) -> Page[Repository]:
    return repositories.list_repositories(
        view.rows,
        prefix=call.text("prefix"),
        search=call.text("search"),
        after=call.text("after"),
        amount=call.amount(),
        visible=call.may_see,
    )


def _delete(view: View, name: str, *, force: bool) -> None:
    repositories.delete_repository(view.rows, name, force=force)


def _read_metadata(view: View, name: str) -> dict[str, str]:
    return repositories.read_metadata(view.rows, name)


def _set_metadata(view: View, name: str, values: dict[str, str]) -> None:
    repositories.set_metadata(view.rows, name, values)


def _delete_metadata(view: View, name: str, keys: list[str]) -> None:
    repositories.delete_metadata(view.rows, name, keys)


def _protect(view: View, name: str, patterns: list[str], if_match: str | None) -> None:
    repositories.set_protection(view.rows, name, patterns, if_match)


def _show_repository(found: Repository) -> dict[str, Any]:
    return {
        "creation_date": found.created_s,
        "default_branch": found.default_branch,
        "id": found.id,
        "read_only": found.read_only,
        "storage_id": "",
        "storage_namespace": found.namespace,
    }


ROUTES = [
    ("GET", "/repositories", list_all),
    ("POST", "/repositories", create),
    ("GET", "/repositories/{repository}", read),
    ("DELETE", "/repositories/{repository}", delete),
    ("GET", "/repositories/{repository}/metadata", read_metadata),
    ("POST", "/repositories/{repository}/metadata", set_metadata),
    ("DELETE", "/repositories/{repository}/metadata", delete_metadata),
    ("GET", "/repositories/{repository}/branch_protection/set_allowed", allowed),
    ("GET", "/repositories/{repository}/settings/branch_protection", read_protection),
    ("PUT", "/repositories/{repository}/settings/branch_protection", set_protection),
]
