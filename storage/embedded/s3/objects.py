"""Objects over S3: get, head, put, copy, delete."""

import time
from email.utils import formatdate

from starlette.responses import Response

from storage.embedded.graph import objects
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.graph.refs import check_branch, get_branch
from storage.embedded.graph.repositories import get_repository
from storage.embedded.graph.version_graph import View
from storage.embedded.http.transfer import Span, parse_range, send
from storage.embedded.keys.access_keys import Right
from storage.embedded.s3.access import check_source, is_unmodified, parse_copy_source, require
from storage.embedded.s3.errors import S3Refused, find_code
from storage.embedded.s3.requests import S3Call, check_supported
from storage.embedded.s3.xml import format_time, read_records, reply_xml
from storage.errors import NotFound, Refused, StorageError

DEFAULT_TYPE = "application/octet-stream"
META_KEY = "X-Amz-Meta-"
MAX_XML_BYTES = 4 << 20


async def get(call: S3Call) -> Response:
    """The bytes, or a range of them."""
    check_supported(call.query, "torrent", "acl", "retention", "legal-hold", "lambdaArn")
    if "versioning" in call.query:
        return reply_xml("VersioningConfiguration", "")
    if "tagging" in call.query:
        return reply_xml("Tagging", [("TagSet", "")])
    found = await call.read(objects.find_object, *call.target.names)
    if is_unmodified(call.headers, found):
        return _answer_not_modified(found)
    name = "/".join(call.target.names)
    return await send(call.lake, found, _find_span(call, found), _make_headers(found), name=name)


async def head(call: S3Call) -> Response:
    """The same without the bytes."""
    found = await call.read(objects.find_object, *call.target.names)
    if is_unmodified(call.headers, found):
        return _answer_not_modified(found)
    span = _find_span(call, found)
    part = span or Span(0, found.size)
    headers = {**_make_headers(found), "Content-Length": str(part.stop - part.start)}
    if span is not None:
        headers["Content-Range"] = span.content_range(found.size)
    return Response(status_code=206 if span else 200, headers=headers)


async def put(call: S3Call) -> Response:
    """Stage an object; with `If-None-Match: *`, only where there is none."""
    check_supported(call.query, "torrent", "acl", "tagging")
    absent = call.only_if_absent()
    metadata = call.metadata()
    await call.read(check_target, call, absent=absent)
    written = await call.receive()
    made = make_entry(
        digest=written.digest,
        etag=written.md5,
        size=written.size,
        content_type=call.headers.get("content-type") or DEFAULT_TYPE,
        modified_s=int(time.time()),
        metadata=metadata,
    )
    await call.write(objects.put_object, *call.target.names, made, absent=absent)
    return Response(headers={"ETag": f'"{made.etag}"'})


async def copy(call: S3Call) -> Response:
    """Stage what another object is; the bytes are shared, not read."""
    source = parse_copy_source(call.headers)
    check_source(call.key, source)
    replaced = call.headers.get("x-amz-metadata-directive") == "REPLACE"
    metadata = call.metadata() if replaced else None
    await call.read(check_target, call, absent=False)
    made = await call.write(objects.copy_object, source, call.target.names, metadata=metadata)
    shown = [("LastModified", format_time(made.modified_s)), ("ETag", f'"{made.etag}"')]
    return reply_xml("CopyObjectResult", shown)


async def delete(call: S3Call) -> Response:
    """Remove an object; removing nothing is fine."""
    check_supported(call.query, "tagging", "acl", "torrent")
    repository, branch, key = call.target.names
    await call.write(objects.delete_objects, repository, branch, [key])
    return Response(status_code=204)


async def delete_many(call: S3Call) -> Response:
    """Remove the listed objects, each `<ref>/<key>`, and say of each how it went."""
    records, others = read_records(await call.read_all(MAX_XML_BYTES), "Delete", "Object")
    if not 0 < len(records) <= objects.MAX_DELETED:
        raise S3Refused("MalformedXML")
    quiet = others.get("Quiet", "").strip().lower() == "true"
    by_ref: dict[str, list[str]] = {}
    for record in records:
        ref, _, key = record.get("Key", "").partition("/")
        by_ref.setdefault(ref, []).append(key)
    shown: list[tuple[str, list[tuple[str, str]]]] = []
    for ref, keys in by_ref.items():
        problem = await _delete_batch(call, ref, [key for key in keys if key])
        for key in keys:
            shown.extend(_show_outcome(f"{ref}/{key}", problem, quiet=quiet))
    return reply_xml("DeleteResult", shown)


def check_target(view: View, call: S3Call, *, absent: bool) -> None:
    """Refuse early what the write would refuse. Raises: S3Refused, StorageError."""
    repository, branch, key = call.target.names
    check_branch(branch)
    get_repository(view.rows, repository)
    try:
        get_branch(view.rows, repository, branch)
    except NotFound as error:
        raise S3Refused("NoSuchBucket") from error
    objects.check_upload(view, repository, branch, key, force=False, absent=absent)


async def _delete_batch(call: S3Call, ref: str, keys: list[str]) -> StorageError | None:
    try:
        require(call.key.may(Right.WRITE, call.target.repository, ref))
        await call.write(objects.delete_objects, call.target.repository, ref, keys)
    except StorageError as error:
        return error
    return None


def _show_outcome(
    key: str, problem: StorageError | None, *, quiet: bool
) -> list[tuple[str, list[tuple[str, str]]]]:
    if problem is None:
        return [] if quiet else [("Deleted", [("Key", key)])]
    told = [("Key", key), ("Code", find_code(problem)), ("Message", f"{problem}")]
    return [("Error", told)]


def _answer_not_modified(found: ObjectEntry) -> Response:
    shown = _make_headers(found)
    headers = {name: shown[name] for name in ("ETag", "Last-Modified")}
    return Response(status_code=304, headers=headers)


def _find_span(call: S3Call, found: ObjectEntry) -> Span | None:
    """The range asked for. A malformed one is ignored, as S3 and lakeFS do."""
    header = call.headers.get("range")
    if header is None:
        return None
    try:
        return parse_range(header, found.size)
    except Refused as error:
        if find_code(error) == "InvalidRange":
            raise
        return None


def _make_headers(found: ObjectEntry) -> dict[str, str]:
    shown = {name: value for name, value in found.metadata.items() if name.startswith(META_KEY)}
    return {
        **shown,
        "Accept-Ranges": "bytes",
        "Content-Type": found.content_type,
        "ETag": f'"{found.etag}"',
        "Last-Modified": formatdate(found.modified_s, usegmt=True),
        "X-Content-Type-Options": "nosniff",
    }
