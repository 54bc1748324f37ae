"""Repositories and their branch protection over REST."""

from typing import Any

from pydantic import RootModel, ValidationError
from starlette.responses import Response

from storage.embedded import repositories
from storage.embedded.calls import MAX_JSON_BYTES, Body, Call, empty, listing, reply
from storage.embedded.errors import Unsupported
from storage.embedded.lake import View
from storage.embedded.paging import Page
from storage.embedded.repositories import Repository
from storage.embedded.transfer import limited
from storage.errors import Refused


class RepositoryCreation(Body):
    """What a new repository is."""

    name: str
    storage_namespace: str
    storage_id: str = ""
    default_branch: str = "main"
    sample_data: bool = False
    read_only: bool = False


class ProtectionRule(Body):
    """One pattern of protected branches."""

    pattern: str


class ProtectionRules(RootModel[list[ProtectionRule]]):
    """All of them."""


async def create(call: Call) -> Response:
    """A new repository."""
    call.refuse("bare")
    body = await call.body(RepositoryCreation)
    if body.sample_data or body.storage_id:
        raise Unsupported("the embedded lakeFS has neither sample data nor storage ids")
    made = await call.write(_create, body)
    return reply(_shown(made), 201)


async def read(call: Call) -> Response:
    """One repository."""
    return reply(_shown(await call.read(_get, call.path("repository"))))


async def list_all(call: Call) -> Response:
    """A page of repositories."""
    found = await call.read(
        _list, call.text("prefix"), call.text("search"), call.text("after"), call.amount()
    )
    results = [_shown(repository) for repository in found.results]
    return listing(results, has_more=found.has_more, offset_key="id")


async def delete(call: Call) -> Response:
    """Gone with all its refs."""
    await call.write(_delete, call.path("repository"))
    return empty()


async def read_protection(call: Call) -> Response:
    """The rules, with an ETag to change them safely."""
    found = await call.read(_get, call.path("repository"))
    rules = [{"pattern": pattern} for pattern in found.protection or ()]
    return reply(rules, ETag=repositories.protection_version(found))


async def set_protection(call: Call) -> Response:
    """All rules at once, if they are still those of If-Match."""
    raw = await limited(call.request.stream(), MAX_JSON_BYTES)
    try:
        rules = ProtectionRules.model_validate_json(raw)
    except ValidationError as error:
        raise Refused("request body has an error: not a list of patterns") from error
    patterns = [rule.pattern for rule in rules.root]
    await call.write(_protect, call.path("repository"), patterns, call.header("If-Match"))
    return empty()


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


def _list(view: View, prefix: str, search: str, after: str, amount: int) -> Page[Repository]:
    return repositories.list_repositories(
        view.rows, prefix=prefix, search=search, after=after, amount=amount
    )


def _delete(view: View, name: str) -> None:
    repositories.delete_repository(view.rows, name)


def _protect(view: View, name: str, patterns: list[str], if_match: str | None) -> None:
    repositories.set_protection(view.rows, name, patterns, if_match)


def _shown(found: Repository) -> dict[str, Any]:
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
    ("GET", "/repositories/{repository}/settings/branch_protection", read_protection),
    ("PUT", "/repositories/{repository}/settings/branch_protection", set_protection),
]
