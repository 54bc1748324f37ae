"""Who is calling: the one access key over HTTP basic, or a token that `login` gave for it."""

import base64
import binascii
import hmac
import json
import time
from dataclasses import dataclass, field
from hashlib import sha256

from storage.embedded.errors import Unauthenticated

USER = "admin"
TOKEN_LIFETIME_S = 7 * 24 * 3600
_HEADER = {"alg": "HS256", "typ": "JWT"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The access key that may do everything; there is no other."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    def admits(self, access_key_id: str, secret_access_key: str) -> bool:
        """Whether this is the key, compared in constant time."""
        right_id = hmac.compare_digest(access_key_id.encode(), self.access_key_id.encode())
        right_secret = hmac.compare_digest(
            secret_access_key.encode(), self.secret_access_key.encode()
        )
        return right_id and right_secret


def authenticate(credentials: Credentials, authorization: str) -> str:
    """The user behind an Authorization header. Raises: Unauthenticated."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "basic" and credentials.admits(*_basic(value)):
        return USER
    if scheme.lower() == "bearer" and _token_is_good(credentials, value.strip()):
        return USER
    raise Unauthenticated("error authenticating request")


def issue_token(credentials: Credentials) -> tuple[str, int]:
    """A token for the user, and the Unix time it ends at."""
    expires_s = int(time.time()) + TOKEN_LIFETIME_S
    claims = {"sub": USER, "aud": "login", "exp": expires_s}
    signed = f"{_encode(_HEADER)}.{_encode(claims)}"
    return f"{signed}.{_signature(credentials, signed)}", expires_s


def _basic(value: str) -> tuple[str, str]:
    try:
        user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, secret


def _token_is_good(credentials: Credentials, token: str) -> bool:
    signed, _, signature = token.rpartition(".")
    expected = _signature(credentials, signed)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return False
    claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
    return bool(claims["exp"] > time.time())


def _signature(credentials: Credentials, text: str) -> str:
    key = sha256(b"headrace lake session\0" + credentials.secret_access_key.encode()).digest()
    return _unpadded(hmac.digest(key, text.encode(), "sha256"))


def _encode(value: object) -> str:
    return _unpadded(json.dumps(value).encode())


def _unpadded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
