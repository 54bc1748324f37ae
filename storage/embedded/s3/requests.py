"""One S3 request: where it points, its body decoded and checked as it streams."""

import base64
import hmac
from asyncio import wrap_future
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import Request

from storage.embedded.bytes.blobs import Incoming, Written
from storage.embedded.graph.version_graph import View
from storage.embedded.http.calls import LakeService
from storage.embedded.http.transfer import check_size, store
from storage.embedded.keys.access_keys import Key
from storage.embedded.lake import EmbeddedLake
from storage.embedded.s3.checksums import CHECKSUM, Digest, check_checksum, start_checksum
from storage.embedded.s3.chunked import FORMS, ChunkedBody
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.sigv4 import Signature

UNSIGNED = "UNSIGNED-PAYLOAD"
META = "x-amz-meta-"
MAX_META_BYTES = 2048
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """What the path names; empty parts are absent."""

    repository: str
    ref: str
    key: str

    @property
    def names(self) -> tuple[str, str, str]:
        """As the lake's functions take them."""
        return self.repository, self.ref, self.key


@dataclass(frozen=True, slots=True)
class S3Call:
    """One request that was authenticated."""

    request: Request
    service: LakeService
    target: Target
    query: dict[str, str]
    signature: Signature

    @property
    def lake(self) -> EmbeddedLake:
        """The lake asked."""
        return self.service.lake

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return self.request.headers

    async def read(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """`work(view, ...)` on a snapshot, in a thread."""
        return await to_thread.run_sync(self.lake.read, partial(_with_view, work, args, named))

    async def write(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """`work(view, ...)` in the writer, durable when it returns."""
        return await wrap_future(self.lake.submit(partial(_with_view, work, args, named)))

    @property
    def key(self) -> Key:
        """Who makes it."""
        return self.signature.signer

    def body(self) -> AsyncIterator[bytes]:
        """The payload, out of its AWS chunks if it came in some."""
        form = self.headers.get("x-amz-content-sha256", UNSIGNED)
        if form not in FORMS:
            return self.request.stream()
        trailer = self.headers.get("x-amz-trailer", "")
        return ChunkedBody(self.request.stream(), form, self.signature, trailer).decode()

    async def receive(self, *, part: str = "") -> Written:
        """The payload made durable, if it is what its headers say. Raises: S3Refused."""
        check_size(_read_announced(self.headers))
        sums = [
            (start_checksum(name), value)
            for name, value in self.headers.items()
            if name.startswith(CHECKSUM) and name not in _NOT_SUMS
        ]
        body, check = _feed_sums(self.body(), sums), partial(self._check, sums)
        return await store(self.lake, body, check, part=part)

    async def read_all(self, limit: int) -> bytes:
        """A small payload in memory, checked likewise. Raises: S3Refused."""
        body = bytearray()
        async for chunk in self.body():
            body += chunk
            if len(body) > limit:
                raise S3Refused("EntityTooLarge")
        told = self.headers.get("x-amz-content-sha256", UNSIGNED)
        if told != UNSIGNED and told not in FORMS:
            _check_digest(sha256(body).hexdigest(), told)
        return bytes(body)

    def _check(self, sums: list[tuple[Digest, str]], received: Incoming) -> None:
        told = self.headers.get("x-amz-content-sha256", UNSIGNED)
        if told != UNSIGNED and told not in FORMS:
            _check_digest(received.digest, told)
        length = self.headers.get("x-amz-decoded-content-length")
        if told in FORMS and length is not None and length != str(received.size):
            raise S3Refused("IncompleteBody")
        if "content-md5" in self.headers:
            _check_md5(received.md5, self.headers["content-md5"])
        for computed, value in sums:
            check_checksum(computed, value)

    def metadata(self) -> dict[str, str]:
        """User metadata under the names lakeFS keeps it by. Raises: S3Refused."""
        found: dict[str, str] = {}
        for name, value in self.headers.items():
            if name.startswith(META):
                found.setdefault(f"X-Amz-Meta-{name.removeprefix(META)}", value)
        if (
            sum(len(name) - len(META) + len(value) for name, value in found.items())
            > MAX_META_BYTES
        ):
            raise S3Refused("MetadataTooLarge")
        return found

    def only_if_absent(self) -> bool:
        """Whether the write must not replace anything. Raises: S3Refused."""
        condition = self.headers.get("if-none-match", "")
        if "if-match" in self.headers or condition not in ("", "*"):
            raise S3Refused("NotImplemented")
        return condition == "*"


_NOT_SUMS = (f"{CHECKSUM}algorithm", f"{CHECKSUM}type", f"{CHECKSUM}mode")


def parse_target(raw_path: bytes) -> Target:
    """The parts of `/<repository>/<ref>/<key>`. Raises: S3Refused if they are not UTF-8."""
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as error:
        raise S3Refused("BadRequest", "The key is not valid UTF-8.") from error
    parts = path.removeprefix("/").split("/", 2)
    repository, ref, key = (*parts, "", "")[:3]
    return Target(repository, ref, key)


def _read_announced(headers: Headers) -> int:
    """The length that the headers promise; 0 if they do not."""
    told = headers.get("x-amz-decoded-content-length") or headers.get("content-length") or "0"
    return int(told) if told.isascii() and told.isdigit() and len(told) < 20 else 0


def check_supported(query: Mapping[str, str], *names: str) -> None:
    """Raises: S3Refused for a property that objects have on S3 and not here."""
    if any(name in query for name in names):
        raise S3Refused("ERRLakeFSNotSupported")


async def _feed_sums(
    body: AsyncIterator[bytes], sums: list[tuple[Digest, str]]
) -> AsyncIterator[bytes]:
    async for chunk in body:
        for computed, _ in sums:
            computed.update(chunk)
        yield chunk


def _check_digest(computed: str, told: str) -> None:
    if not hmac.compare_digest(computed.encode(), told.lower().encode()):
        raise S3Refused("XAmzContentSHA256Mismatch")


def _check_md5(computed: str, told: str) -> None:
    try:
        expected = base64.b64decode(told, validate=True).hex()
    except ValueError as error:
        raise S3Refused("InvalidDigest") from error
    if len(expected) != 32:
        raise S3Refused("InvalidDigest")
    if expected != computed:
        raise S3Refused("BadDigest")


def _with_view(
    work: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any], view: View
) -> T:
    return work(view, *args, **named)
