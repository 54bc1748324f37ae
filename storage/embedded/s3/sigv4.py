"""AWS Signature Version 4, in the Authorization header or in a presigned URL: read and checked.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
and .../sigv4-query-string-auth.html; the codes of refusals are lakeFS's.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from starlette.datastructures import Headers

from storage.embedded.keys.access_keys import Key
from storage.embedded.s3.errors import S3Refused

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
MAX_EXPIRES_S = 7 * 24 * 3600
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
CREDENTIAL = "X-Amz-Credential"
_SIGNATURE = b"X-Amz-Signature"
_QUERY = ("X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires")
_SCOPE = r"(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[\w-]+)/(?P<service>[\w-]+)/aws4_request"
_CREDENTIAL = re.compile(_SCOPE, re.ASCII)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM}\s+Credential={_SCOPE},\s*SignedHeaders=(?P<headers>[^,\s]+),"
    r"\s*Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)
_PRESIGNED = re.compile(rb"(?:^|&)X-Amz-Credential=[^&]")
_SPACES = re.compile(rb"\s+")
# In the canonical request by itself, whether it is listed as signed or not.
_ALWAYS_SIGNED = "x-amz-content-sha256"
FindKey = Callable[[str], Key | None]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What is signed: the request line and headers, path and query percent-decoded."""

    method: str
    path: bytes
    query: list[tuple[bytes, bytes]]
    headers: Headers

    def parameter(self, name: str) -> str | None:
        """The first query parameter of a name."""
        values = (value for key, value in self.query if key == name.encode())
        found = next(values, None)
        return None if found is None else found.decode()


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature, checked: the seed for signatures of its chunks."""

    value: str
    signing_key: bytes = field(repr=False)
    moment: str
    scope: str
    signer: Key

    def sign_next(self, *parts: str, algorithm: str) -> str:
        """The signature of a chunk or trailer that follows; `parts` end its string to sign."""
        text = "\n".join((algorithm, self.moment, self.scope, *parts))
        return hmac.digest(self.signing_key, text.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says of its signature; `expires_s` only if it is presigned."""

    key_id: str
    day: str
    scope: str
    signed: str
    signature: str
    expires_s: int | None


def is_signed(headers: Headers, query: bytes) -> bool:
    """Whether the request speaks S3 rather than the REST API."""
    return headers.get("authorization", "").startswith("AWS") or bool(_PRESIGNED.search(query))


def verify(request: SignedRequest, find: FindKey) -> Signature:
    """The request's signature, if it is right and of now. Raises: S3Refused."""
    authorization = request.headers.get("authorization")
    claim = (
        _read_query_claim(request) if authorization is None else _read_header_claim(authorization)
    )
    moment = _find_moment(request, claim)
    signer = find(claim.key_id)
    if signer is None:
        raise S3Refused("AccessDenied")
    digest = sha256(_make_canonical(request, claim.signed)).hexdigest()
    signing_key = _derive_signing_key(signer.secret, claim.scope)
    text = "\n".join((ALGORITHM, moment, claim.scope, digest))
    expected = hmac.digest(signing_key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise S3Refused("SignatureDoesNotMatch")
    _check_age(moment, claim.expires_s)
    return Signature(expected, signing_key, moment, claim.scope, signer)


def _read_header_claim(authorization: str) -> _Claim:
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise S3Refused("MissingFields" if authorization.startswith("AWS4") else "InvalidRequest")
    return _Claim(
        found["key"], found["day"], _join_scope(found), found["headers"], found["signature"], None
    )


def _read_query_claim(request: SignedRequest) -> _Claim:
    algorithm, credential = request.parameter("X-Amz-Algorithm"), request.parameter(CREDENTIAL)
    if credential is None:
        raise S3Refused("AccessDenied")
    given = [request.parameter(name) for name in _QUERY]
    if algorithm is None or None in given:
        raise S3Refused("MissingFields")
    if algorithm.upper() != ALGORITHM:
        raise S3Refused("AuthorizationQueryParametersError", f"X-Amz-Algorithm is not {ALGORITHM}.")
    found = _CREDENTIAL.fullmatch(credential)
    if found is None:
        raise S3Refused("AuthorizationQueryParametersError", "X-Amz-Credential is malformed.")
    signature, _, signed, expires = (value or "" for value in given)
    return _Claim(
        found["key"], found["day"], _join_scope(found), signed, signature, _parse_expires_s(expires)
    )


def _join_scope(found: re.Match[str]) -> str:
    return f"{found['day']}/{found['region']}/{found['service']}/aws4_request"


def _parse_expires_s(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MAX_EXPIRES_S):
        problem = f"X-Amz-Expires must be a number of seconds up to {MAX_EXPIRES_S}."
        raise S3Refused("AuthorizationQueryParametersError", problem)
    return int(text)


def _find_moment(request: SignedRequest, claim: _Claim) -> str:
    headers = request.headers
    found = request.parameter("X-Amz-Date") or headers.get("x-amz-date") or headers.get("date")
    if not found:
        raise S3Refused("AccessDenied", "A valid Date or x-amz-date header is required.", 400)
    try:
        datetime.strptime(found, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise S3Refused("MalformedDate") from error
    if not found.startswith(claim.day):
        raise S3Refused("AuthorizationHeaderMalformed")
    return found


def _check_age(moment: str, expires_s: int | None) -> None:
    age = datetime.now(UTC) - datetime.strptime(moment, TIME_FORMAT).replace(tzinfo=UTC)
    if age < -MAX_SKEW:
        raise S3Refused("AccessDenied", "Request is not valid yet")
    if age > MAX_SKEW:
        raise S3Refused("RequestTimeTooSkewed")
    if expires_s is not None and age > timedelta(seconds=expires_s):
        raise S3Refused("AccessDenied", "Request has expired")


def _make_canonical(request: SignedRequest, signed: str) -> bytes:
    query = sorted(
        (_escape(name, ""), _escape(value, ""))
        for name, value in request.query
        if name != _SIGNATURE
    )
    names = sorted(signed.split(";"))
    _check_signed(request.headers, names)
    headers = b"".join(_show_header(request.headers, name) for name in names)
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


def _check_signed(headers: Headers, names: list[str]) -> None:
    """Whoever holds a presigned URL must not add, say, a copy source to it. Raises: S3Refused."""
    if "host" not in names or not all(name.isascii() for name in names):
        raise S3Refused("SignatureDoesNotMatch")
    for name in headers:
        if name.startswith("x-amz-") and name not in names and name != _ALWAYS_SIGNED:
            raise S3Refused("AccessDenied", f"The header {name} is not signed.")


def _show_header(headers: Headers, name: str) -> bytes:
    values = (value.encode("latin-1") for value in headers.getlist(name))
    shown = b",".join(_SPACES.sub(b" ", value.strip()) for value in values)
    return name.encode("latin-1") + b":" + shown + b"\n"


def _escape(text: bytes, safe: str) -> bytes:
    return quote(text, safe=safe + "-_.~").encode()


def _derive_signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
