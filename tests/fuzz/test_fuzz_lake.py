"""The embedded lakeFS against hostile requests: signatures, chunks, XML, ranges, whole requests."""

import asyncio
import base64
import functools
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from starlette.datastructures import Headers

from storage.embedded.app import create_app
from storage.embedded.http.calls import parse_api_query, parse_query
from storage.embedded.http.transfer import parse_range
from storage.embedded.keys.access_keys import make_admin_key
from storage.embedded.keys.sessions import Credentials
from storage.embedded.s3 import sigv4
from storage.embedded.s3.access import parse_copy_source
from storage.embedded.s3.chunked import SIGNED, UNSIGNED_TRAILER, ChunkedBody
from storage.embedded.s3.errors import S3Refused
from storage.embedded.s3.requests import parse_target
from storage.embedded.s3.xml import read_records
from storage.errors import StorageError

NAMES = [
    "signature", "aws-chunked", "aws-chunked signed", "XML", "range", "path", "query",
    "copy source", "S3 request", "REST request",
]  # fmt: skip
KEY, SECRET = "AKIAFUZZ", "a secret of the fuzzer"
SCOPE = "/us-east-1/s3/aws4_request"


def header_lines(data: bytes) -> tuple[bytes, Headers]:
    """A request line and headers, as a server would hand them over."""
    first, *rest = data.split(b"\n")
    pairs = [line.partition(b":")[::2] for line in rest if b":" in line]
    return first, Headers(raw=[(name.lower().strip(), value.strip()) for name, value in pairs])


def canonical_request(method: str, path: str, query: str, headers: dict[str, str]) -> str:
    """AWS Signature Version 4, from its description: what a client signs."""
    names = sorted(headers)
    listed = "".join(f"{name}:{headers[name]}\n" for name in names)
    digest = headers["x-amz-content-sha256"]
    return "\n".join((method, path, query, listed, ";".join(names), digest))


def signed_headers(
    method: str, path: str, query: str, extra: dict[str, str]
) -> tuple[dict[str, str], bytes, str]:
    """Headers with an Authorization of the fuzzer's key; also the signing key and signature."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": "lake", "x-amz-date": now, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    headers |= {name: " ".join(value.split()) for name, value in extra.items()}
    request = canonical_request(method, path, query, headers)
    scope = now[:8] + SCOPE
    text = "\n".join((sigv4.ALGORITHM, now, scope, sha256(request.encode("latin-1")).hexdigest()))
    key = b"AWS4" + SECRET.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    names = ";".join(sorted(headers))
    headers["authorization"] = (
        f"{sigv4.ALGORITHM} Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers, key, signature


class Application:
    """The whole server in process, over one ASGI call after another."""

    def __init__(self, root: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._app = create_app(root, Credentials(KEY, SECRET))
        self._lifespan = self._app.router.lifespan_context(self._app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        body = b'{"name":"repo","storage_namespace":"local://repo","default_branch":"main"}'
        self.call("POST", b"/api/v1/repositories", b"", self.basic(), body)
        for branch in (b"landing", b"dev"):
            made = b'{"name":"%s","source":"main"}' % branch
            self.call("POST", b"/api/v1/repositories/repo/branches", b"", self.basic(), made)
        put = signed_headers("PUT", "/repo/dev/a/b", "", {})[0]
        self.call("PUT", b"/repo/dev/a/b", b"", put, b"some bytes")

    def basic(self) -> dict[str, str]:
        word = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        return {"authorization": f"Basic {word}", "content-type": "application/json"}

    def call(
        self, method: str, path: bytes, query: bytes, headers: dict[str, str], body: bytes
    ) -> int:
        """The status of the answer; whatever the application raises is raised here."""
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()],
            "server": ("lake", 80),
            "client": ("127.0.0.1", 1),
            "state": {},
        }
        sent: list[dict[str, Any]] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self._loop.run_until_complete(self._app(scope, receive, send))
        return int(sent[0]["status"])


def raw_request(data: bytes) -> tuple[str, bytes, bytes, dict[str, str], bytes]:
    """Method, path, query, headers and body, kept to what an HTTP server lets through."""
    head, _, body = data.partition(b"\n\n")
    first, headers = header_lines(head)
    method, _, target = first.partition(b" ")
    safe = quote(target, safe="/%?&=+;:@!$'()*,-._~").encode()
    path, _, query = safe.partition(b"?")
    shown = {
        name: value
        for name, value in headers.items()
        if name.isascii() and name.replace("-", "").isalnum()
        and not any(ord(character) < 32 or ord(character) == 127 for character in value)
    }  # fmt: skip
    known = {"GET", "PUT", "POST", "DELETE", "HEAD"}
    word = method.decode("latin-1")
    return word if word in known else "GET", b"/" + path.lstrip(b"/"), query, shown, body


S3_REQUESTS = (
    b"GET /repo/dev/a/b\nrange: bytes=0-3",
    b"HEAD /repo/main~1/a/b\nif-none-match: \"x\"",
    b"PUT /repo/dev/a/c\ncontent-md5: 1B2M2Y8AsgTpgAmY7PhCfg==\nif-none-match: *\n\n",
    b"PUT /repo/dev/a/d\nx-amz-copy-source: /repo/dev/a/b",
    b"GET /repo?list-type=2&prefix=dev/&delimiter=/&max-keys=10&continuation-token=eA==",
    b"GET /repo?prefix=dev/&marker=a&encoding-type=url",
    b"GET /",
    b"POST /repo?delete\n\n<Delete><Object><Key>dev/zz</Key></Object><Quiet>true</Quiet></Delete>",
    b"POST /repo/dev/up?uploads",
    b"GET /repo/dev/up?uploadId=0123456789abcdef&max-parts=3&part-number-marker=1",
    b"PUT /repo/dev/up?partNumber=1&uploadId=0123456789abcdef\n\nbytes",
    b"POST /repo/dev/up?uploadId=0123\n\n<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
    b"<ETag>x</ETag></Part></CompleteMultipartUpload>",
    b"DELETE /repo/dev/zz",
    b"PUT /repo/dev/a/e\nx-amz-checksum-crc32: AAAAAA==\n\n",
    b"PUT /repo/dev/a/f\nx-amz-meta-a: b\ncontent-type: text/plain\nif-match: \"x\"\n\nbytes",
    b"GET /repo/main~2^1/a/b\nif-modified-since: Mon, 01 Jul 2013 00:00:00 GMT",
)  # fmt: skip
REST = b"/api/v1/repositories"
REST_REQUESTS = (
    b"GET " + REST + b"?amount=5&after=a&prefix=r",
    b"GET " + REST + b"/repo/branches?amount=100&after=",
    b"POST " + REST + b'/repo/branches\n\n{"name":"b1","source":"main~0","force":false}',
    b"POST " + REST + b'/repo/branches/dev/commits\n\n{"message":"m","metadata":{"a":"b"}}',
    b"GET " + REST + b"/repo/refs/dev/commits?amount=3&objects=a&since=2013-07-01T00:00:00Z",
    b"GET " + REST + b"/repo/refs/main/diff/dev?type=two_dot&delimiter=/&amount=2",
    b"POST " + REST + b'/repo/refs/dev/merge/main\n\n{"message":"m","strategy":"source-wins"}',
    b"POST " + REST + b'/repo/branches/dev/revert\n\n{"ref":"main","parent_number":1}',
    b"POST " + REST + b'/repo/tags\n\n{"id":"v1","ref":"main"}',
    b"GET " + REST + b"/repo/refs/dev/objects?path=a/b\nrange: bytes=-4",
    b"GET " + REST + b"/repo/refs/dev/objects/ls?prefix=a/&delimiter=/&after=a",
    b"GET " + REST + b"/repo/refs/dev/objects/stat?path=a/b&user_metadata=true",
    b"POST " + REST + b"/repo/branches/dev/objects?path=q\ncontent-type: text/plain\n\nx",
    b"POST " + REST + b'/repo/branches/dev/objects/delete\n\n{"paths":["zz"]}',
    b"DELETE " + REST + b"/repo/branches/dev/objects?path=zz",
    b"GET /api/v1/user\nauthorization: Basic QUtJQUZVWlo6YSBzZWNyZXQgb2YgdGhlIGZ1enplcg==",
    b"GET /api/v1/user\nauthorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJrZXkiOiJBS0lBRlVaWiJ9.AAAA",
    b'POST /api/v1/auth/login\n\n{"access_key_id":"AKIAFUZZ","secret_access_key":"a secret"}',
    b"GET " + REST + b"/repo/commits/main~1",
    b"GET " + REST + b"/repo/refs/main~0^1@/commits",
)  # fmt: skip


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


@functools.cache
def targets(fuzz: Any) -> tuple[Any, ...]:
    key = make_admin_key(KEY, SECRET)
    headers, signing_key, signature = signed_headers("GET", "/repo/dev/a", "x=1&y=2", {})
    request = b"GET /repo/dev/a?x=1&y=2\n" + b"\n".join(
        f"{name}:{value}".encode() for name, value in headers.items()
    )
    moment, scope = headers["x-amz-date"], headers["x-amz-date"][:8] + SCOPE
    presigned = (
        f"GET /repo/dev/a?X-Amz-Algorithm={sigv4.ALGORITHM}&X-Amz-Credential={KEY}/{scope}"
        f"&X-Amz-Date={moment}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={'0' * 64}"
        "\nhost:lake"
    ).encode()

    def read_signature(data: bytes) -> object:
        first, given = header_lines(data)
        method, _, target = first.partition(b" ")
        path, _, query = target.partition(b"?")
        asked = parse_query(query)
        pairs = [(name.encode(), value.encode()) for name in asked for value in asked[name]]
        signed = sigv4.SignedRequest(method.decode("latin-1"), path, pairs, given)
        try:
            return sigv4.verify(signed, lambda one: key if one == KEY else None)
        except S3Refused:
            # The presigned specimen has no right signature; that it is refused so far is right.
            if data == presigned:
                return None
            raise

    seed = sigv4.Signature(signature, signing_key, moment, scope, key)
    plain = (
        b"5\r\nhello\r\n3\r\nabc\r\n0\r\nx-amz-checksum-crc32:"
        b"NXYtzQ==\r\n\r\n"
    )  # fmt: skip
    first = seed.sign_next(
        signature,
        sha256().hexdigest(),
        sha256(b"hello").hexdigest(),
        algorithm=f"{sigv4.ALGORITHM}-PAYLOAD",
    )
    last = seed.sign_next(
        first, sha256().hexdigest(), sha256().hexdigest(), algorithm=f"{sigv4.ALGORITHM}-PAYLOAD"
    )
    chunked = (
        f"5;chunk-signature={first}\r\nhello\r\n0;chunk-signature={last}\r\n\r\n"
    ).encode()  # fmt: skip

    async def decode(data: bytes, form: str, trailer: str) -> bytes:
        body = ChunkedBody(pieces(data), form, seed, trailer)
        return b"".join([part async for part in body.decode()])

    loop = asyncio.new_event_loop()

    def read_plain(data: bytes) -> bytes:
        read = decode(data, UNSIGNED_TRAILER, "x-amz-checksum-crc32")
        return loop.run_until_complete(read)

    def read_signed(data: bytes) -> bytes:
        return loop.run_until_complete(decode(data, SIGNED, ""))

    application = functools.cache(lambda: Application(fuzz.folder()))

    def s3_request(data: bytes) -> int:
        method, path, query, extra, body = raw_request(data)
        text, asked = path.decode("ascii"), query.decode("ascii")
        try:
            pairs = [(n, v) for n, values in parse_query(query).items() for v in values]
        except StorageError:
            pairs = []
        named = ((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in pairs)
        shown = "&".join(f"{n}={v}" for n, v in sorted(named))
        ours = {n: v for n, v in extra.items() if n not in ("host", "authorization", "date")}
        made = signed_headers(method, text, shown, ours)[0]
        return answered(application().call(method, path, asked.encode(), made, body))

    def rest_request(data: bytes) -> int:
        method, path, query, extra, body = raw_request(data)
        return answered(
            application().call(method, path, query, {**application().basic(), **extra}, body)
        )

    def target(name: str, read: Any, inputs: int, *specimens: bytes) -> Any:
        return fuzz.Target(name, read, specimens, (StorageError,), inputs)

    return (
        target("signature", read_signature, 20_000, request, presigned),
        target("aws-chunked", read_plain, 10_000, plain),
        target("aws-chunked signed", read_signed, 5_000, chunked),
        target(
            "XML",
            lambda data: read_records(data, "Delete", "Object"),
            20_000,
            b'<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="x"><Object><Key>a&amp;b</Key>'
            b"</Object><Quiet>true</Quiet></Delete>",
        ),
        target(
            "range",
            lambda data: parse_range(data.decode("latin-1"), 1000),
            15_000,
            b"bytes=0-99",
            b"bytes=-5",
            b"bytes=7-",
        ),
        target("path", parse_target, 10_000, b"/repo/main/a%20b/c"),
        target("query", parse_api_query, 10_000, b"prefix=a%2Fb&amount=10&after=x"),
        target(
            "copy source",
            lambda data: parse_copy_source({"x-amz-copy-source": data.decode("latin-1")}),
            5_000,
            b"/repo/main/a%20b",
        ),
        target("S3 request", s3_request, 5_000, *S3_REQUESTS),
        target("REST request", rest_request, 5_000, *REST_REQUESTS),
    )


def answered(status: int) -> int:
    if status >= 500 and status != 501:
        raise RuntimeError(f"the server answered {status}")
    return status


@pytest.mark.parametrize("name", NAMES)
def test_hostile_requests_are_refused_in_the_documented_way(name: str, fuzz: Any) -> None:
    slow = name.endswith("request")
    found = next(target for target in targets(fuzz) if target.name == name)
    fuzz.short(found, 100 if slow else 200)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("S3 request", b"PUT /repo/dev/a\ncontent-md5: \xed\n\nx"),
        ("S3 request", b"GET /repo/dev/a/b\nrange: bytes=" + b"9" * 5000 + b"-"),
        ("S3 request", b"GET /repo/main~" + b"9" * 5000 + b"/a/b"),
        (
            "S3 request",
            b'POST /repo?delete\n\n<?xml version="1.0" encoding="x"?><Delete><Object/></Delete>',
        ),
        ("REST request", b"GET /api/v1/user\nauthorization: Basic \xe9\xe9"),
        ("REST request", b"GET " + REST + b"/repo/refs/main~" + b"9" * 5000 + b"/commits"),
    ],
    ids=["md5", "range", "ancestor", "encoding", "basic", "ancestor by REST"],
)
def test_what_fuzzing_once_found_is_refused(name: str, data: bytes, fuzz: Any) -> None:
    """Each of these was answered 500."""
    next(target for target in targets(fuzz) if target.name == name).read(data)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_hostile_requests(name: str, fuzz: Any) -> None:
    share = next(target.inputs for target in targets(fuzz) if target.name == name)
    print(fuzz.child(__file__, name, share * fuzz.long_inputs // 1_000_000))


def test_every_target_has_a_test(fuzz: Any) -> None:
    assert [target.name for target in targets(fuzz)] == NAMES
