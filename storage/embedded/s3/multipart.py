"""Uploads in parts over S3. Parts are files of their own until the upload is complete."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5

from anyio import to_thread
from starlette.responses import Response

from storage.embedded.bytes.blobs import CHUNK_BYTES, Written
from storage.embedded.errors import DiskFull
from storage.embedded.graph import objects
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.graph.version_graph import View
from storage.embedded.http.transfer import MAX_DIGITS, Span, parse_range
from storage.embedded.lake import EmbeddedLake
from storage.embedded.s3.access import check_source, parse_copy_source
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.objects import DEFAULT_TYPE, MAX_XML_BYTES, check_target
from storage.embedded.s3.requests import S3Call
from storage.embedded.s3.xml import Content, format_time, read_records, reply_xml
from storage.embedded.sqlite import fetch_all, fetch_first
from storage.errors import Refused

MAX_PART = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part that was received whole."""

    number: int
    file: str
    etag: str
    size: int
    modified_s: int


@dataclass(frozen=True, slots=True)
class Upload:
    """What the object will be besides its bytes."""

    content_type: str
    metadata: dict[str, str]


async def create(call: S3Call) -> Response:
    """A new upload."""
    await call.read(check_target, call, absent=False)
    upload = secrets.token_hex(16)
    await call.write(_insert_upload, call, upload)
    names = [("Bucket", call.target.repository), ("Key", _show_key(call)), ("UploadId", upload)]
    return reply_xml("InitiateMultipartUploadResult", names)


async def put_part(call: S3Call) -> Response:
    """Receive one part, in place of an earlier one of its number."""
    number = _parse_number(call.query.get("partNumber", ""))
    await call.read(_find_upload, call)
    file = secrets.token_hex(16)
    part = await _keep_part(call, number, file, await call.receive(part=file))
    return Response(headers={"ETag": f'"{part.etag}"'})


async def copy_part(call: S3Call) -> Response:
    """A part from an object that is there, or from a range of it."""
    number = _parse_number(call.query.get("partNumber", ""))
    source = parse_copy_source(call.headers)
    check_source(call.key, source)
    await call.read(_find_upload, call)
    found = await call.read(objects.find_object, *source)
    span = _find_copied_span(call.headers.get("x-amz-copy-source-range"), found.size)
    file = secrets.token_hex(16)
    written = await to_thread.run_sync(_copy, call.lake, found, span, file)
    part = await _keep_part(call, number, file, written)
    shown = [("LastModified", format_time(part.modified_s)), ("ETag", f'"{part.etag}"')]
    return reply_xml("CopyPartResult", shown)


async def list_uploads(call: S3Call) -> Response:
    """The repository's uploads that were begun and neither completed nor aborted."""
    if any(call.query.get(name) for name in ("prefix", "delimiter", "encoding-type")):
        raise S3Refused("NotImplemented")
    most = min(_parse_whole(call.query.get("max-uploads") or "1000"), 1000)
    after = call.query.get("key-marker", ""), call.query.get("upload-id-marker", "")
    found = [
        names for names in await call.read(_list_uploads, call.target.repository) if names > after
    ]
    shown = found[:most]
    fields: list[tuple[str, Content]] = [
        ("Bucket", call.target.repository),
        ("MaxUploads", most),
        ("IsTruncated", len(found) > most),
    ]
    if len(found) > most and shown:
        fields += [("NextKeyMarker", shown[-1][0]), ("NextUploadIdMarker", shown[-1][1])]
    uploads = (("Upload", [("Key", key), ("UploadId", upload)]) for key, upload in shown)
    return reply_xml("ListMultipartUploadsResult", [*fields, *uploads])


async def list_parts(call: S3Call) -> Response:
    """The parts received so far."""
    await call.read(_find_upload, call)
    after = _parse_whole(call.query.get("part-number-marker") or "0")
    most = min(_parse_whole(call.query.get("max-parts") or "1000"), 1000)
    found = [part for part in await call.read(_list_parts, call) if part.number > after]
    shown = found[:most]
    fields: list[tuple[str, Content]] = [
        ("Bucket", call.target.repository),
        ("Key", _show_key(call)),
        ("UploadId", call.query["uploadId"]),
        ("MaxParts", most),
        ("IsTruncated", len(found) > most),
    ]
    if len(found) > most and shown:
        fields.append(("NextPartNumberMarker", shown[-1].number))
    return reply_xml("ListPartsResult", [*fields, *(_show_part(part) for part in shown)])


async def complete(call: S3Call) -> Response:
    """Put the listed parts together and stage the object."""
    absent = call.only_if_absent()
    upload = await call.read(_find_upload, call)
    await call.read(check_target, call, absent=absent)
    body = await call.read_all(MAX_XML_BYTES)
    records, _ = read_records(body, "CompleteMultipartUpload", "Part")
    parts = await call.read(_list_parts, call)
    chosen = _choose_parts(records, {part.number: part for part in parts})
    written = await to_thread.run_sync(_join, call.lake, chosen)
    etag = _compute_etag(chosen)
    made = make_entry(
        digest=written.digest,
        etag=etag,
        size=written.size,
        content_type=upload.content_type,
        modified_s=int(time.time()),
        metadata=upload.metadata,
    )
    await call.write(_finish, call, made, absent=absent)
    await to_thread.run_sync(_unlink, call.lake, [part.file for part in parts])
    shown: list[tuple[str, Content]] = [
        ("Location", str(call.request.url.replace(query=""))),
        ("Bucket", call.target.repository),
        ("Key", _show_key(call)),
        ("ETag", f'"{etag}-{len(chosen)}"'),
    ]
    return reply_xml("CompleteMultipartUploadResult", shown)


async def abort(call: S3Call) -> Response:
    """Forget the upload and its parts."""
    await call.read(_find_upload, call)
    parts = await call.read(_list_parts, call)
    await call.write(_delete, call)
    await to_thread.run_sync(_unlink, call.lake, [part.file for part in parts])
    return Response(status_code=204)


def remove_orphans(lake: EmbeddedLake) -> None:
    """Delete part files that no upload knows: a crash may leave some."""
    known = lake.read(
        lambda view: {row[0] for row in fetch_all(view.rows, "SELECT file FROM part")}
    )
    for file in lake.blobs.parts.iterdir():
        if file.name not in known:
            file.unlink(missing_ok=True)


async def _keep_part(call: S3Call, number: int, file: str, written: Written) -> Part:
    part = Part(number, file, written.md5, written.size, int(time.time()))
    try:
        replaced = await call.write(_insert_part, call, part)
    except (S3Refused, DiskFull):
        # Not after a failed sync: nobody knows then whether the row is there.
        await to_thread.run_sync(_unlink, call.lake, [file])
        raise
    await to_thread.run_sync(_unlink, call.lake, replaced)
    return part


def _find_copied_span(header: str | None, size: int) -> Span:
    """What is copied; all of it for a range that makes no sense, as lakeFS has it."""
    try:
        return parse_range(header, size) if header else Span(0, size)
    except Refused:
        return Span(0, size)


def _copy(lake: EmbeddedLake, source: ObjectEntry, span: Span, file: str) -> Written:
    incoming = lake.blobs.receive()
    try:
        for chunk in lake.blobs.read(source.digest, source.size, span.start, span.stop):
            incoming.write(chunk)
        return lake.blobs.keep(incoming, file)
    finally:
        incoming.discard()


def _list_uploads(view: View, repository: str) -> list[tuple[str, str]]:
    query = "SELECT branch || '/' || key AS name, id FROM upload WHERE repository = ?"
    return sorted((name, upload) for name, upload in fetch_all(view.rows, query, repository))


def _insert_upload(view: View, call: S3Call, upload: str) -> None:
    content_type = call.headers.get("content-type") or DEFAULT_TYPE
    metadata = json.dumps(call.metadata())
    view.rows.execute(
        "INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?, ?)",
        (upload, *call.target.names, content_type, metadata, int(time.time())),
    )


def _find_upload(view: View, call: S3Call) -> Upload:
    found = fetch_first(
        view.rows,
        "SELECT content_type, metadata FROM upload"
        " WHERE id = ? AND repository = ? AND branch = ? AND key = ?",
        *(call.query["uploadId"], *call.target.names),
    )
    if found is None:
        raise S3Refused("NoSuchUpload")
    return Upload(found[0], json.loads(found[1]))


def _list_parts(view: View, call: S3Call) -> list[Part]:
    found = fetch_all(
        view.rows,
        "SELECT number, file, etag, size, modified_s FROM part WHERE upload = ? ORDER BY number",
        call.query["uploadId"],
    )
    return [Part(*row) for row in found]


def _insert_part(view: View, call: S3Call, part: Part) -> list[str]:
    """Record it; the files it replaces."""
    _find_upload(view, call)
    upload = call.query["uploadId"]
    replaced = fetch_all(
        view.rows,
        "SELECT file FROM part WHERE upload = ? AND number = ?",
        *(upload, part.number),
    )
    view.rows.execute(
        "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
        (upload, part.number, part.file, part.etag, part.size, part.modified_s),
    )
    return [row[0] for row in replaced]


def _finish(view: View, call: S3Call, made: ObjectEntry, *, absent: bool) -> None:
    _find_upload(view, call)
    objects.put_object(view, *call.target.names, made, absent=absent)
    _delete(view, call)


def _delete(view: View, call: S3Call) -> None:
    upload = call.query["uploadId"]
    view.rows.execute("DELETE FROM part WHERE upload = ?", (upload,))
    view.rows.execute("DELETE FROM upload WHERE id = ?", (upload,))


def _choose_parts(records: Sequence[dict[str, str]], parts: dict[int, Part]) -> list[Part]:
    chosen: list[Part] = []
    for record in records:
        part = parts.get(_parse_number(record.get("PartNumber", "")))
        if part is None or record.get("ETag", "").strip().strip('"') != part.etag:
            raise S3Refused("InvalidPart")
        if chosen and chosen[-1].number >= part.number:
            raise S3Refused("InvalidPartOrder")
        chosen.append(part)
    if not chosen:
        raise S3Refused("MalformedXML")
    return chosen


def _join(lake: EmbeddedLake, parts: Sequence[Part]) -> Written:
    incoming = lake.blobs.receive()
    try:
        for part in parts:
            with (lake.blobs.parts / part.file).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    incoming.write(chunk)
        return lake.blobs.keep(incoming)
    except FileNotFoundError as error:
        raise S3Refused("NoSuchUpload") from error
    finally:
        incoming.discard()


def _compute_etag(parts: Sequence[Part]) -> str:
    sums = b"".join(bytes.fromhex(part.etag) for part in parts)
    return md5(sums, usedforsecurity=False).hexdigest()


def _show_part(part: Part) -> tuple[str, Content]:
    return "Part", [
        ("PartNumber", part.number),
        ("LastModified", format_time(part.modified_s)),
        ("ETag", f'"{part.etag}"'),
        ("Size", part.size),
    ]


def _parse_number(text: str) -> int:
    number = _parse_whole(text)
    if not 1 <= number <= MAX_PART:
        raise S3Refused("InvalidArgument", f"Part number must be 1 to {MAX_PART}.")
    return number


def _parse_whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise S3Refused("InvalidArgument", f"{text[:40]!r} is not a number.")
    return int(text)


def _unlink(lake: EmbeddedLake, files: Sequence[str]) -> None:
    for file in files:
        (lake.blobs.parts / file).unlink(missing_ok=True)


def _show_key(call: S3Call) -> str:
    return f"{call.target.ref}/{call.target.key}"
