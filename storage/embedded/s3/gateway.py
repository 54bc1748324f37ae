"""The S3 gateway: which operation a request is, its signature, its errors as XML."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storage.embedded.graph.repositories import find_repository
from storage.embedded.graph.version_graph import View
from storage.embedded.http.calls import LakeService, parse_query
from storage.embedded.http.metrics import GATEWAY
from storage.embedded.s3 import listing, multipart, objects, sigv4
from storage.embedded.s3.access import COPY_SOURCE, check_request
from storage.embedded.s3.errors import CODES, S3Refused, find_code, find_status
from storage.embedded.s3.requests import S3Call, Target, parse_target
from storage.embedded.s3.xml import reply_xml
from storage.errors import StorageError

logger = logging.getLogger("storage.embedded")
Operation = Callable[[S3Call], Awaitable[Response]]

_SERVICE: dict[str, Operation] = {"GET": listing.list_buckets}
_BUCKET: dict[str, Operation] = {
    "GET": listing.list_objects,
    "HEAD": listing.head_bucket,
}
_OBJECT: dict[str, Operation] = {
    "GET": objects.get,
    "HEAD": objects.head,
    "PUT": objects.put,
    "DELETE": objects.delete,
}
_UPLOAD: dict[str, Operation] = {
    "GET": multipart.list_parts,
    "PUT": multipart.put_part,
    "POST": multipart.complete,
    "DELETE": multipart.abort,
}


# lakeFS's names, where it has one; what it counts with another operation has its own here.
_NAMES: dict[Operation, str] = {
    listing.list_buckets: "list_buckets",
    listing.list_objects: "list_objects",
    listing.head_bucket: "head_bucket",
    multipart.abort: "abort_upload",
    multipart.complete: "complete_upload",
    multipart.copy_part: "copy_part",
    multipart.create: "create_upload",
    multipart.list_parts: "list_parts",
    multipart.list_uploads: "list_uploads",
    multipart.put_part: "put_part",
    objects.copy: "copy_object",
    objects.delete: "delete_object",
    objects.delete_many: "delete_objects",
    objects.get: "get_object",
    objects.head: "head_object",
    objects.put: "put_object",
}


class Gateway:
    """An ASGI application for S3 requests in path style."""

    def __init__(self, service: LakeService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        request.state.service = GATEWAY
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        target = Target("", "", "")
        try:
            target = parse_target(request.scope["raw_path"])
            call = self._authenticate(request, target)
            if target.repository:
                await call.read(_check_bucket, call)
            operation = _find_operation(call)
            request.state.operation = _NAMES[operation]
            return await operation(call)
        except StorageError as error:
            return _answer_error(error, target, request)

    def _authenticate(self, request: Request, target: Target) -> S3Call:
        query = parse_query(request.scope["query_string"])
        pairs = [(name.encode(), value.encode()) for name in query for value in query[name]]
        path = "/".join(("", *target.names)) if target.key else request.scope["path"]
        signed = sigv4.SignedRequest(request.method, path.encode(), pairs, request.headers)
        signature = sigv4.verify(signed, self._service.keys.find)
        key = self._service.keys.mark_used(signature.signer)
        request.state.user, request.state.key = key.name, key.id
        flat = {name: values[0] for name, values in query.items()}
        check_request(key, request.method, target.names, flat)
        return S3Call(request, self._service, target, flat, signature)


def _find_operation(call: S3Call) -> Operation:
    method, target, query = call.request.method, call.target, call.query
    if not target.repository:
        found = _SERVICE.get(method)
    elif target.key:
        found = _find_object_operation(call)
    elif not target.ref:
        found = _find_bucket_operation(method, query)
    else:
        raise S3Refused("NoSuchKey")
    if found is None:
        raise S3Refused("ERRLakeFSNotSupported")
    return found


def _find_bucket_operation(method: str, query: Mapping[str, str]) -> Operation | None:
    if method == "POST":
        return objects.delete_many if "delete" in query else None
    if method == "PUT" and not query:
        raise S3Refused("BucketAlreadyExists")
    if method == "GET" and "uploads" in query and not listing.SUBRESOURCES & query.keys():
        return multipart.list_uploads
    return _BUCKET.get(method)


def _find_object_operation(call: S3Call) -> Operation | None:
    method, query = call.request.method, call.query
    if "uploadId" in query:
        copies = method == "PUT" and COPY_SOURCE in call.headers
        return multipart.copy_part if copies else _UPLOAD.get(method)
    if method == "POST":
        return multipart.create if "uploads" in query else None
    if method == "PUT" and COPY_SOURCE in call.headers:
        return objects.copy
    return _OBJECT.get(method)


def _check_bucket(view: View, call: S3Call) -> None:
    if find_repository(view.rows, call.target.repository) is None:
        create = call.request.method == "PUT" and not call.target.ref
        raise S3Refused("NotImplemented" if create else "NoSuchBucket")


def _answer_error(error: StorageError, target: Target, request: Request) -> Response:
    code = find_code(error)
    status = find_status(error)
    if status >= 500 and status != 501:
        logger.error("%s", error, exc_info=error)
    message = CODES[code][1] if not isinstance(error, S3Refused) else str(error)
    if request.method == "HEAD":
        return Response(status_code=status)
    return reply_xml(
        "Error",
        [
            ("Code", code),
            ("Message", message),
            ("Key", target.key),
            ("BucketName", target.repository),
            ("Resource", f"{target.ref}@{target.repository}"),
            ("Region", "us-east-1"),
            ("RequestId", request.state.request_id),
            ("HostId", secrets.token_hex(8)),
        ],
        status,
    )
