"""The OpenAPI description of what this server implements, made from its own routes and bodies."""

import re
from collections.abc import Iterator
from inspect import getdoc
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from storage.embedded import (
    rest_branches,
    rest_commits,
    rest_objects,
    rest_repositories,
    rest_service,
    rest_uploads,
)
from storage.embedded.calls import DEFAULT_AMOUNT, MAX_AMOUNT, Handler

Json = dict[str, Any]
API = "/api/v1"
MODULES: tuple[ModuleType, ...] = (
    rest_service,
    rest_repositories,
    rest_branches,
    rest_commits,
    rest_objects,
    rest_uploads,
)
_PAGE = "prefix after amount"
_FOLDED = f"{_PAGE} delimiter"
_QUERY: dict[Handler, str] = {
    rest_repositories.list_all: f"{_PAGE} search",
    rest_repositories.delete: "force",
    rest_branches.list_all: f"{_PAGE} show_hidden",
    rest_branches.delete: "force",
    rest_branches.hard_reset: "ref force",
    rest_branches.list_tags: _PAGE,
    rest_branches.delete_tag: "force",
    rest_commits.read_log: "after amount objects prefixes limit first_parent since stop_at",
    rest_commits.diff_branch: _FOLDED,
    rest_commits.diff_refs: f"{_FOLDED} type include_right_stats",
    rest_objects.read: "path",
    rest_objects.head: "path",
    rest_objects.stat: "path user_metadata",
    rest_objects.list_all: f"{_FOLDED} user_metadata",
    rest_objects.read_properties: "path",
    rest_objects.set_metadata: "path",
    rest_objects.may_upload: "path",
    rest_objects.delete: "path force",
    rest_objects.delete_many: "force",
    rest_objects.copy: "dest_path",
    rest_uploads.upload: "path force",
}
_BODIES: dict[Handler, type[BaseModel]] = {
    rest_service.login: rest_service.LoginBody,
    rest_repositories.create: rest_repositories.RepositoryCreation,
    rest_repositories.set_metadata: rest_repositories.MetadataSet,
    rest_repositories.delete_metadata: rest_repositories.MetadataKeys,
    rest_repositories.set_protection: rest_repositories.ProtectionRules,
    rest_branches.create: rest_branches.BranchCreation,
    rest_branches.reset: rest_branches.BranchReset,
    rest_branches.create_tag: rest_branches.TagCreation,
    rest_commits.commit: rest_commits.CommitCreation,
    rest_commits.merge: rest_commits.Merge,
    rest_commits.revert: rest_commits.Revert,
    rest_objects.delete_many: rest_objects.PathList,
    rest_objects.copy: rest_objects.ObjectCopy,
    rest_objects.set_metadata: rest_objects.MetadataUpdate,
}
_REQUIRED = ("path", "dest_path", "ref")
_FLAGS = ("force", "show_hidden", "limit", "first_parent", "include_right_stats", "user_metadata")
_TEXT: Json = {"type": "string"}
_SCHEMAS: dict[str, Json] = {
    **{name: {"type": "boolean"} for name in _FLAGS},
    "amount": {
        "type": "integer",
        "minimum": -1,
        "maximum": MAX_AMOUNT,
        "default": DEFAULT_AMOUNT,
    },
    "objects": {"type": "array", "items": _TEXT},
    "prefixes": {"type": "array", "items": _TEXT},
    "since": {"type": "string", "format": "date-time"},
    "type": {"type": "string", "enum": ["two_dot", "three_dot"]},
}


def describe() -> Json:
    """The document that `/openapi.json` answers with."""
    paths: dict[str, Json] = {}
    for method, path, handler, is_open in _operations():
        paths.setdefault(path, {})[method.lower()] = _operation(path, handler, is_open=is_open)
    bodies = sorted(_BODIES.values(), key=lambda body: body.__name__)
    _, schemas = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "lakeFS API, as embedded", "version": rest_service.LAKEFS_VERSION},
        "servers": [{"url": API}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "basic"}},
        },
    }


def _operations() -> Iterator[tuple[str, str, Handler, bool]]:
    for module in MODULES:
        for method, path, handler in module.ROUTES:
            yield method, path, handler, False
    for method, path, handler in rest_service.OPEN:
        yield method, path, handler, True


def _operation(path: str, handler: Handler, *, is_open: bool) -> Json:
    named = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in re.findall(r"{(\w+)}", path)
    ]
    asked = [
        {
            "name": name,
            "in": "query",
            "required": name in _REQUIRED,
            "schema": _SCHEMAS.get(name, _TEXT),
        }
        for name in _QUERY.get(handler, "").split()
    ]
    described: Json = {
        "operationId": f"{handler.__module__.rpartition('.')[2]}.{handler.__name__}",
        "summary": (getdoc(handler) or "").partition("\n")[0],
        "parameters": [*named, *asked],
        "security": [] if is_open else [{"key": []}],
        "responses": {"default": {"description": "The result, or `message` says what is wrong."}},
    }
    return {**described, **_body(handler)}


def _body(handler: Handler) -> Json:
    if handler is rest_uploads.upload:
        content: Json = {"application/octet-stream": {}}
    elif body := _BODIES.get(handler):
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        content = {"application/json": {"schema": schema}}
    else:
        return {}
    return {"requestBody": {"required": True, "content": content}}
