"""Who is calling: an access key over HTTP basic, or a token that `login` gave for one."""

import base64
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import apsw

from storage.embedded.errors import Unauthenticated
from storage.embedded.keys.access_keys import Key, make_admin_key
from storage.embedded.keys.keyring import Keyring
from storage.errors import StorageError

TOKEN_LIFETIME_S = 7 * 24 * 3600
_HEADER = {"alg": "HS256", "typ": "JWT"}
_NOBODY = make_admin_key("", "no such key")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key as the environment gives it."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


class LakeKeys:
    """Every key that opens the lake: the environment's, and those of the ring."""

    def __init__(self, ring: Keyring, credentials: Credentials | None) -> None:
        self._ring = ring
        self._given = (
            make_admin_key(credentials.access_key_id, credentials.secret_access_key)
            if credentials
            else None
        )
        self._notes = ThreadPoolExecutor(1, thread_name_prefix="lake-keys")

    def find(self, key_id: str) -> Key | None:
        """The key of this id."""
        if not key_id.isprintable():
            return None  # a token may claim half a surrogate pair, which no lookup could encode
        given = self._given
        if given and hmac.compare_digest(key_id.encode(), given.id.encode()):
            return given
        return self._ring.find(key_id)

    def admit(self, key_id: str, secret: str) -> Key:
        """The key of this id, if the secret is its own. Raises: Unauthenticated."""
        # An unknown id takes the time of a known one.
        key = self.find(key_id) or _NOBODY
        if not key.opens_with(secret) or key is _NOBODY:
            raise Unauthenticated("error authenticating request")
        return self.mark_used(key)

    def mark_used(self, key: Key) -> Key:
        """Note that a key was used, without keeping its request waiting."""
        if key is not self._given and self._ring.note_use(key.id):
            self._notes.submit(self._write_use, key.id)
        return key

    def close(self) -> None:
        """Write what was noted and close the ring."""
        self._notes.shutdown()
        self._ring.close()

    def _write_use(self, key_id: str) -> None:
        with suppress(StorageError, apsw.Error):
            self._ring.write_use(key_id)


def authenticate(keys: LakeKeys, authorization: str) -> Key:
    """The key behind an Authorization header. Raises: Unauthenticated."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "basic":
        return keys.admit(*_parse_basic(value))
    if scheme.lower() == "bearer":
        return _check_bearer(keys, value.strip())
    raise Unauthenticated("error authenticating request")


def issue_token(key: Key) -> tuple[str, int]:
    """A token for the key, and the Unix time it ends at; revoking the key ends it too."""
    expires_s = int(time.time()) + TOKEN_LIFETIME_S
    claims = {"sub": key.name, "key": key.id, "aud": "login", "exp": expires_s}
    signed = f"{_encode(_HEADER)}.{_encode(claims)}"
    return f"{signed}.{_sign(key, signed)}", expires_s


def _parse_basic(value: str) -> tuple[str, str]:
    try:
        user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, secret


def _check_bearer(keys: LakeKeys, token: str) -> Key:
    signed, _, signature = token.rpartition(".")
    claims = _read_claims(signed)
    key = keys.find(str(claims.get("key", ""))) or _NOBODY
    fits = hmac.compare_digest(signature.encode(), _sign(key, signed).encode())
    if not fits or key is _NOBODY or claims["exp"] <= time.time():
        raise Unauthenticated("error authenticating request")
    return keys.mark_used(key)


def _read_claims(signed: str) -> dict[str, Any]:
    """What an unchecked token says; only the key it names is looked up before the check."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _sign(key: Key, text: str) -> str:
    secret = sha256(b"headrace lake session\0" + key.secret.encode()).digest()
    return _encode_unpadded(hmac.digest(secret, text.encode(), "sha256"))


def _encode(value: object) -> str:
    return _encode_unpadded(json.dumps(value).encode())


def _encode_unpadded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
