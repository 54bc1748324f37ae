"""Objects over REST: read, describe, list, delete, copy."""

import re
from email.utils import formatdate
from typing import Any

from starlette.responses import Response

from storage.embedded.errors import BadRange, Unsupported
from storage.embedded.graph import objects
from storage.embedded.graph.paging import Folded
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.http.calls import (
    Body,
    Call,
    answer_error,
    reply,
    reply_empty,
    reply_page,
)
from storage.embedded.http.transfer import Span, parse_range, send
from storage.embedded.lake import EmbeddedLake
from storage.errors import NotFound, Refused, StorageError

_RANGE = re.compile(r"bytes=([0-9]*-[0-9]*,? ?)+")
INLINE = frozenset(
    [
        "image/jpeg",
        "image/jpg",
        "image/png",
        "image/gif",
        "image/webp",
        "image/svg+xml",
        "application/pdf",
        "text/plain",
        "text/markdown",
        "text/x-markdown",
        "text/html",
        "text/css",
        "text/javascript",
        "application/javascript",
        "application/json",
        "application/xml",
        "text/xml",
        "video/mp4",
        "video/webm",
        "audio/mpeg",
        "audio/wav",
        "audio/webm",
    ]
)


_FOLDER = {"checksum": "", "mtime": 0, "path_type": "common_prefix", "physical_address": ""}


class PathList(Body):
    """What to delete."""

    paths: list[str]


class ObjectCopy(Body):
    """What to copy."""

    src_path: str
    src_ref: str | None = None
    force: bool = False
    shallow: bool = False


class MetadataUpdate(Body):
    """User metadata, all of it."""

    set: dict[str, str]


async def read(call: Call) -> Response:
    """The bytes, or a range of them."""
    call.refuse("presign")
    _check_range(call)
    entry = await _find(call)
    headers = _make_headers(entry)
    if call.header("If-None-Match") == headers["ETag"]:
        return Response(status_code=304)
    shown = "inline" if entry.content_type in INLINE else "attachment"
    headers |= {
        "Content-Disposition": shown,
        "Content-Security-Policy": "default-src 'none'",
        "X-Frame-Options": "SAMEORIGIN",
    }
    try:
        span = _find_span(call, entry)
    except BadRange as error:
        return answer_error(error, {"Content-Range": f"bytes */{entry.size}"})
    name = f"{call.path('repository')}/{call.path('ref')}/{call.text('path')}"
    return await send(call.lake, entry, span, headers, name=name)


async def head(call: Call) -> Response:
    """The same without the bytes."""
    try:
        _check_range(call)
        entry = await _find(call)
        span = _find_span(call, entry)
    except StorageError as error:
        return Response(status_code=answer_error(error).status_code)
    part = span or Span(0, entry.size)
    headers = {
        **_make_headers(entry),
        "Accept-Ranges": "bytes",
        "Content-Length": str(part.stop - part.start),
    }
    if span is not None:
        headers["Content-Range"] = span.content_range(entry.size)
    return Response(status_code=206 if span else 200, headers=headers)


async def stat(call: Call) -> Response:
    """What is known of an object."""
    call.refuse("presign")
    entry = await _find(call)
    shown = describe_object(call.lake, call.require("path"), entry)
    if not call.flag("user_metadata", default=True):
        shown["metadata"] = {}
    return reply(shown)


async def list_all(call: Call) -> Response:
    """A page of objects and common prefixes."""
    call.refuse("presign")
    found = await call.read(
        objects.list_objects, call.path("repository"), call.path("ref"), call.window()
    )
    with_metadata = call.flag("user_metadata", default=True)
    results = []
    for item in found.results:
        if isinstance(item, Folded):
            results.append({**_FOLDER, "path": item.prefix})
            continue
        shown = describe_object(call.lake, *item)
        if not (with_metadata and shown["metadata"]):
            del shown["metadata"]
        results.append(shown)
    return reply_page(results, has_more=found.has_more, offset_key="path")


async def delete(call: Call) -> Response:
    """Remove one object; removing nothing is fine."""
    await call.write(
        objects.delete_objects,
        call.path("repository"),
        call.path("branch"),
        [call.require("path")],
        force=call.flag("force"),
    )
    return reply_empty()


async def delete_many(call: Call) -> Response:
    """Remove several objects; what was refused is listed."""
    body = await call.body(PathList)
    if len(body.paths) > objects.MAX_DELETED:
        raise Refused(f"request size exceeded, max paths is set to {objects.MAX_DELETED}")
    names = call.path("repository"), call.path("branch")
    try:
        await call.write(objects.delete_objects, *names, body.paths, force=call.flag("force"))
    except StorageError as error:
        return reply({"errors": _list_refused(body.paths, error)})
    return reply({"errors": []})


async def copy(call: Call) -> Response:
    """Copy an object; the bytes are shared, not read."""
    body = await call.body(ObjectCopy)
    if body.shallow:
        raise Unsupported("Not Implemented")
    to = call.require("dest_path")
    entry = await call.write(
        objects.copy_object,
        (call.path("repository"), body.src_ref or call.path("branch"), body.src_path),
        (call.path("repository"), call.path("branch"), to),
        force=body.force,
    )
    return reply(describe_object(call.lake, to, entry), 201)


async def set_metadata(call: Call) -> Response:
    """Replace the user metadata of an object."""
    body = await call.body(MetadataUpdate)
    await call.write(
        objects.update_metadata,
        call.path("repository"),
        call.path("branch"),
        call.require("path"),
        body.set,
    )
    return reply_empty()


async def read_properties(call: Call) -> Response:
    """What the store below knows of an object: a local one has no storage classes."""
    await _find(call)
    return reply({"storage_class": None})


async def may_upload(call: Call) -> Response:
    """Whether the key may write here: it may, or the request would not have come this far."""
    call.require("path")
    return reply_empty()


def describe_object(lake: EmbeddedLake, path: str, entry: ObjectEntry) -> dict[str, Any]:
    """An object as lakeFS describes it."""
    return {
        "checksum": entry.etag,
        "content_type": entry.content_type,
        "metadata": entry.metadata,
        "mtime": entry.modified_s,
        "path": path,
        "path_type": "object",
        "physical_address": f"local://{lake.blobs.path(entry.digest).absolute()}",
        "size_bytes": entry.size,
    }


async def _find(call: Call) -> ObjectEntry:
    return await call.read(
        objects.find_object, call.path("repository"), call.path("ref"), call.require("path")
    )


def _make_headers(entry: ObjectEntry) -> dict[str, str]:
    return {
        "Cache-Control": "no-store, must-revalidate",
        "Content-Type": entry.content_type,
        "ETag": f'"{entry.etag}"',
        "Expires": "0",
        "Last-Modified": formatdate(entry.modified_s, usegmt=True),
    }


def _check_range(call: Call) -> None:
    header = call.header("Range")
    if header is not None and not _RANGE.fullmatch(header):
        raise Refused(f'parameter "Range" in header has an error: {header!r} is no byte range')


def _find_span(call: Call, entry: ObjectEntry) -> Span | None:
    header = call.header("Range")
    if header is None:
        return None
    try:
        return parse_range(header, entry.size)
    except BadRange:
        raise
    except Refused as error:
        raise BadRange("Requested Range Not Satisfiable") from error


def _list_refused(paths: list[str], error: StorageError) -> list[dict[str, Any]]:
    if isinstance(error, NotFound) or "missing path" in str(error):
        return []
    status = 500 if isinstance(error, Refused) else answer_error(error).status_code
    return [{"message": str(error), "path": path, "status_code": status} for path in paths]


_AT_REF = "/repositories/{repository}/refs/{ref}/objects"
_ON_BRANCH = "/repositories/{repository}/branches/{branch}/objects"
ROUTES = [
    ("GET", _AT_REF, read),
    ("HEAD", _AT_REF, head),
    ("GET", f"{_AT_REF}/stat", stat),
    ("GET", f"{_AT_REF}/ls", list_all),
    ("GET", f"{_AT_REF}/underlyingProperties", read_properties),
    ("PUT", f"{_ON_BRANCH}/stat/user_metadata", set_metadata),
    ("GET", f"{_ON_BRANCH}/stage_allowed", may_upload),
    ("DELETE", _ON_BRANCH, delete),
    ("POST", f"{_ON_BRANCH}/delete", delete_many),
    ("POST", f"{_ON_BRANCH}/copy", copy),
]
