"""Uploads over REST: a raw body, or the `content` part of a form."""

import time
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.responses import Response

from storage.embedded.errors import Unsupported
from storage.embedded.graph import objects
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.http.calls import Call, reply
from storage.embedded.http.forms import read_content_part
from storage.embedded.http.transfer import store
from storage.embedded.rest.objects import describe_object

DEFAULT_TYPE = "application/octet-stream"
META = "x-lakefs-meta-"
INTERNAL_META = "x-lakefs-internal-"
INTERNAL_KEY = "::lakefs::"


async def upload(call: Call) -> Response:
    """Stage an object; with `If-None-Match: *`, only where there is none."""
    absent = _only_if_absent(call)
    names = call.path("repository"), call.path("branch"), call.require("path")
    force = call.flag("force")
    await call.read(objects.check_upload, *names, force=force, absent=absent)
    made = await _receive(call)
    await call.write(objects.put_object, *names, made, force=force, absent=absent)
    return reply(describe_object(call.lake, names[2], made), 201)


def _only_if_absent(call: Call) -> bool:
    condition = call.header("If-None-Match")
    if call.header("If-Match") is not None or condition not in (None, "*"):
        raise Unsupported("Not Implemented")
    return condition == "*"


async def _receive(call: Call) -> ObjectEntry:
    content_type = call.header("Content-Type") or DEFAULT_TYPE
    chunks: AsyncIterator[bytes] = call.request.stream()
    if content_type.lower().startswith("multipart/form-data"):
        content_type, chunks = await read_content_part(content_type, chunks)
    written = await store(call.lake, chunks)
    return make_entry(
        digest=written.digest,
        etag=written.md5,
        size=written.size,
        content_type=content_type or DEFAULT_TYPE,
        modified_s=int(time.time()),
        metadata=_read_metadata(call.request.headers),
    )


def _read_metadata(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name.startswith(META):
            found.setdefault(name.removeprefix(META), value)
        elif name.startswith(INTERNAL_META):
            found.setdefault(INTERNAL_KEY + name.removeprefix(INTERNAL_META), value)
    return found


ROUTES = [("POST", "/repositories/{repository}/branches/{branch}/objects", upload)]
