"""The OpenAPI description of what this server implements, made from its own routes and bodies."""

import re
from collections.abc import Iterator
from inspect import getdoc
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from storage.embedded.http.calls import DEFAULT_AMOUNT, MAX_AMOUNT, Handler
from storage.embedded.rest import (
    branches,
    commits,
    objects,
    repositories,
    service,
    uploads,
)

Json = dict[str, Any]
API = "/api/v1"
MODULES: tuple[ModuleType, ...] = (
    service,
    repositories,
    branches,
    commits,
    objects,
    uploads,
)
_PAGE = "prefix after amount"
_FOLDED = f"{_PAGE} delimiter"
_QUERY: dict[Handler, str] = {
    repositories.list_all: f"{_PAGE} search",
    repositories.delete: "force",
    branches.list_all: f"{_PAGE} show_hidden",
    branches.delete: "force",
    branches.hard_reset: "ref force",
    branches.list_tags: _PAGE,
    branches.delete_tag: "force",
    commits.read_log: "after amount objects prefixes limit first_parent since stop_at",
    commits.diff_branch: _FOLDED,
    commits.diff_refs: f"{_FOLDED} type include_right_stats",
    objects.read: "path",
    objects.head: "path",
    objects.stat: "path user_metadata",
    objects.list_all: f"{_FOLDED} user_metadata",
    objects.read_properties: "path",
    objects.set_metadata: "path",
    objects.may_upload: "path",
    objects.delete: "path force",
    objects.delete_many: "force",
    objects.copy: "dest_path",
    uploads.upload: "path force",
}
_BODIES: dict[Handler, type[BaseModel]] = {
    service.login: service.LoginBody,
    repositories.create: repositories.RepositoryCreation,
    repositories.set_metadata: repositories.MetadataSet,
    repositories.delete_metadata: repositories.MetadataKeys,
    repositories.set_protection: repositories.ProtectionRules,
    branches.create: branches.BranchCreation,
    branches.reset: branches.BranchReset,
    branches.create_tag: branches.TagCreation,
    commits.commit: commits.CommitCreation,
    commits.merge: commits.Merge,
    commits.revert: commits.Revert,
    objects.delete_many: objects.PathList,
    objects.copy: objects.ObjectCopy,
    objects.set_metadata: objects.MetadataUpdate,
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
        "info": {"title": "lakeFS API, as embedded", "version": service.LAKEFS_VERSION},
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
    for method, path, handler in service.OPEN:
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
    if handler is uploads.upload:
        content: Json = {"application/octet-stream": {}}
    elif body := _BODIES.get(handler):
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        content = {"application/json": {"schema": schema}}
    else:
        return {}
    return {"requestBody": {"required": True, "content": content}}
