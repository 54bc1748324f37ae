"""Buckets and listings over S3. A bucket is a repository; its top folders are its branches."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response

from storage.embedded.graph import branches, objects, repositories
from storage.embedded.graph.paging import Folded, KeyWindow, Page
from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.graph.refs import BranchRow
from storage.embedded.graph.tree import Item
from storage.embedded.graph.version_graph import View
from storage.embedded.keys.access_keys import Key
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.requests import S3Call
from storage.embedded.s3.xml import Content, format_time, reply_xml
from storage.errors import NotFound, Refused

MAX_KEYS = 1000
SUBRESOURCES = frozenset(
    [
        "inventory",
        "metrics",
        "publicAccessBlock",
        "ownershipControls",
        "intelligent-tiering",
        "analytics",
        "policy",
        "lifecycle",
        "encryption",
        "object-lock",
        "replication",
        "notification",
        "events",
        "acl",
        "cors",
        "website",
        "accelerate",
        "requestPayment",
        "logging",
        "tagging",
        "versions",
        "policyStatus",
    ]
)


@dataclass(frozen=True, slots=True)
class Query:
    """What a listing asks for; keys start with `<ref>/`."""

    prefix: str
    delimiter: str
    after: str
    max_keys: int
    shown: Callable[[str], str]


async def list_buckets(call: S3Call) -> Response:
    """All repositories."""
    prefix = call.query.get("prefix", "")
    found = await call.read(_list_repositories, prefix, call.key)
    buckets: list[tuple[str, Content]] = [
        ("Bucket", [("Name", one.id), ("CreationDate", format_time(one.created_s))])
        for one in found.results
    ]
    return reply_xml("ListAllMyBucketsResult", [("Buckets", buckets)])


async def head_bucket(_: S3Call) -> Response:
    """That the repository is there was checked before."""
    return Response()


async def list_objects(call: S3Call) -> Response:
    """Whatever a GET on a bucket asks for: a listing, or a property of it."""
    if SUBRESOURCES & call.query.keys():
        raise S3Refused("ERRLakeFSNotSupported")
    if "location" in call.query:
        return reply_xml("LocationConstraint", "")
    if "versioning" in call.query:
        return reply_xml("VersioningConfiguration", "")
    version = call.query.get("list-type", "1")
    if version not in ("1", "2"):
        raise S3Refused("BadRequest")
    return await (_list_v2(call) if version == "2" else _list_v1(call))


async def _list_v1(call: S3Call) -> Response:
    marker = call.query.get("marker", "")
    query = _read_query(call, marker)
    keys, has_more, last = await call.read(_list_keys, call.target.repository, query)
    fields: list[tuple[str, Content]] = [("Marker", query.shown(marker))]
    if has_more and query.delimiter:
        fields.append(("NextMarker", query.shown(last)))
    return _reply_listing(call, query, keys, has_more, fields)


async def _list_v2(call: S3Call) -> Response:
    token = call.query.get("continuation-token", "")
    after = call.query.get("start-after", "")
    query = _read_query(call, _decode_token(token) if token else after)
    keys, has_more, last = await call.read(_list_keys, call.target.repository, query)
    fields: list[tuple[str, Content]] = [("KeyCount", len(keys))]
    if token:
        fields.append(("ContinuationToken", token))
    if after:
        fields.append(("StartAfter", query.shown(after)))
    if has_more:
        fields.append(("NextContinuationToken", _encode_token(last)))
    return _reply_listing(call, query, keys, has_more, fields)


def _reply_listing(
    call: S3Call,
    query: Query,
    keys: list[tuple[str, Content]],
    has_more: bool,
    fields: list[tuple[str, Content]],
) -> Response:
    head: list[tuple[str, Content]] = [
        ("Name", call.target.repository),
        ("Prefix", query.shown(query.prefix)),
        ("MaxKeys", query.max_keys),
        ("IsTruncated", has_more),
    ]
    if query.delimiter:
        head.append(("Delimiter", query.shown(query.delimiter)))
    if query.shown is not str:
        head.append(("EncodingType", "url"))
    return reply_xml("ListBucketResult", [*head, *fields, *keys])


def _read_query(call: S3Call, after: str) -> Query:
    encoding = call.query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise S3Refused("InvalidArgument", "Invalid Encoding Method specified in Request")
    try:
        max_keys = int(call.query.get("max-keys") or MAX_KEYS)
    except ValueError:
        max_keys = MAX_KEYS  # as lakeFS has it
    if max_keys < 0:
        raise S3Refused("InvalidArgument", "Argument maxKeys must not be negative.")
    return Query(
        prefix=call.query.get("prefix", ""),
        delimiter=call.query.get("delimiter", ""),
        after=after,
        max_keys=min(max_keys, MAX_KEYS),
        shown=_encode_url if encoding else str,
    )


def _list_keys(
    view: View, repository: str, query: Query
) -> tuple[list[tuple[str, Content]], bool, str]:
    """The page's elements, whether more follow, and the last key of the page."""
    ref, slash, prefix = query.prefix.partition("/")
    if query.max_keys == 0:
        return [], False, ""
    if not slash:
        branch_page = _list_branches(view, repository, query)
        names = [f"{branch.name}/" for branch in branch_page.results]
        folders = [_show_folder(query, name) for name in names]
        return folders, branch_page.has_more, names[-1] if names else ""
    found = _list_objects(view, repository, ref, prefix, query)
    keys = [_show(query, ref, item) for item in found.results]
    last = found.results[-1] if found.results else Folded("")
    name = last.prefix if isinstance(last, Folded) else last[0]
    return keys, found.has_more, f"{ref}/{name}"


def _list_branches(view: View, repository: str, query: Query) -> Page[BranchRow]:
    after = query.after.partition("/")[0]
    return branches.list_branches(
        view, repository, prefix=query.prefix, after=after, amount=query.max_keys
    )


def _list_objects(
    view: View, repository: str, ref: str, prefix: str, query: Query
) -> Page[Item | Folded]:
    after_ref, _, after = query.after.partition("/")
    if query.after and after_ref != ref:
        raise S3Refused("BadRequest")
    window = KeyWindow(prefix, after, query.delimiter, query.max_keys)
    try:
        return objects.list_objects(view, repository, ref, window)
    except NotFound:
        return Page([], False)


def _show(query: Query, ref: str, item: Item | Folded) -> tuple[str, Content]:
    if isinstance(item, Folded):
        return _show_folder(query, f"{ref}/{item.prefix}")
    return "Contents", _show_object(query.shown(f"{ref}/{item[0]}"), item[1])


def _show_folder(query: Query, name: str) -> tuple[str, Content]:
    return "CommonPrefixes", [("Prefix", query.shown(name))]


def _show_object(key: str, value: ObjectEntry) -> Content:
    return [
        ("Key", key),
        ("LastModified", format_time(value.modified_s)),
        ("ETag", f'"{value.etag}"'),
        ("Size", value.size),
        ("StorageClass", "STANDARD"),
    ]


def _list_repositories(view: View, prefix: str, key: Key) -> Page[repositories.Repository]:
    return repositories.list_repositories(
        view.rows, prefix=prefix, amount=1 << 30, visible=key.may_see
    )


def _encode_url(text: str) -> str:
    return quote(text, safe="/-_.~*")


def _encode_token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, UnicodeError) as error:
        raise Refused("The continuation token is not one of ours.") from error
