"""AWS Signature Version 4 in the Authorization header: read it, and check it.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from starlette.datastructures import Headers

from storage.embedded.s3_errors import S3Refused
from storage.embedded.sessions import Credentials

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM}\s+Credential=(?P<key>[^/]+)/(?P<day>\d{{8}})/(?P<region>[\w-]+)"
    r"/(?P<service>[\w-]+)/aws4_request,\s*SignedHeaders=(?P<headers>[^,\s]+),"
    r"\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_SPACES = re.compile(rb"\s+")


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed: the request line and headers, path and query percent-decoded."""

    method: str
    path: bytes
    query: list[tuple[bytes, bytes]]
    headers: Headers


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature, checked: the seed for signatures of its chunks."""

    value: str
    key: bytes
    moment: str
    scope: str

    def chained(self, *parts: str, algorithm: str) -> str:
        """The signature of a chunk or trailer that follows; `parts` end its string to sign."""
        text = "\n".join((algorithm, self.moment, self.scope, *parts))
        return hmac.digest(self.key, text.encode(), "sha256").hex()


def is_signed(headers: Headers) -> bool:
    """Whether the request speaks S3 rather than the REST API."""
    return headers.get("authorization", "").startswith("AWS")


def verify(request: Request, credentials: Credentials) -> Signature:
    """The request's signature, if it is right. Raises: S3Refused."""
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        raise S3Refused("AccessDenied")
    if found["key"] != credentials.access_key_id:
        raise S3Refused("AccessDenied")
    moment = request.headers.get("x-amz-date", "")
    _check_clock(moment, found["day"])
    scope = f"{found['day']}/{found['region']}/{found['service']}/aws4_request"
    digest = sha256(_canonical(request, found["headers"])).hexdigest()
    key = _signing_key(credentials.secret_access_key, scope)
    text = "\n".join((ALGORITHM, moment, scope, digest))
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, found["signature"]):
        raise S3Refused("SignatureDoesNotMatch")
    return Signature(expected, key, moment, scope)


def _check_clock(moment: str, day: str) -> None:
    try:
        signed_at = datetime.strptime(moment, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise S3Refused("AccessDenied", "The x-amz-date header is missing or malformed.") from error
    if abs(datetime.now(UTC) - signed_at) > MAX_SKEW or not moment.startswith(day):
        raise S3Refused("RequestTimeTooSkewed")


def _canonical(request: Request, signed: str) -> bytes:
    query = sorted((_escape(name, ""), _escape(value, "")) for name, value in request.query)
    names = sorted(signed.split(";"))
    if "host" not in names:
        raise S3Refused("SignatureDoesNotMatch")
    headers = b"".join(_header(request.headers, name) for name in names)
    return b"\n".join(
        (
            request.method.encode(),
            _escape(request.path, "/"),
            b"&".join(name + b"=" + value for name, value in query),
            headers,
            signed.encode(),
            request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD").encode("latin-1"),
        )
    )


def _header(headers: Headers, name: str) -> bytes:
    values = (value.encode("latin-1") for value in headers.getlist(name))
    shown = b",".join(_SPACES.sub(b" ", value.strip()) for value in values)
    return name.encode("latin-1") + b":" + shown + b"\n"


def _escape(text: bytes, safe: str) -> bytes:
    return quote(text, safe=safe + "-_.~").encode()


def _signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
