"""The checksums that S3 clients send in `x-amz-checksum-…` headers and trailers."""

import base64
import hmac
import zlib
from collections.abc import Callable
from hashlib import sha1, sha256
from typing import Protocol

from storage.embedded.s3.errors import S3Refused

CHECKSUM = "x-amz-checksum-"


class Digest(Protocol):
    """A running checksum, as hashlib has them."""

    def update(self, data: bytes, /) -> None:
        """Take in more."""

    def digest(self) -> bytes:
        """The checksum so far."""


class Crc:
    """A CRC with the interface of hashlib; `add` continues one over more bytes."""

    def __init__(self, add: Callable[[bytes, int], int], size: int) -> None:
        self._add, self._size = add, size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Take in more."""
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        """The checksum so far, big-endian."""
        return self._value.to_bytes(self._size)


def start_checksum(header: str) -> Digest:
    """The algorithm behind an `x-amz-checksum-…` header. Raises: S3Refused if unknown here."""
    name = header.lower().removeprefix(CHECKSUM)
    if name not in _ALGORITHMS:
        raise S3Refused("NotImplemented", f"The checksum algorithm {name} is not implemented.")
    return _ALGORITHMS[name]()


def check_checksum(computed: Digest, sent: str) -> None:
    """Raises: S3Refused if the base64 that the client sent is not what was computed."""
    if not hmac.compare_digest(base64.b64encode(computed.digest()), sent.strip().encode()):
        raise S3Refused("XAmzContentChecksumMismatch")


def _start_crc32c() -> Digest:
    # Imported at the first use: it takes longer than all else that a start of the lake imports.
    from awscrt.checksums import crc32c

    return Crc(crc32c, 4)


def _start_crc64nvme() -> Digest:
    from awscrt.checksums import crc64nvme

    return Crc(crc64nvme, 8)


_ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "crc32": lambda: Crc(zlib.crc32, 4),
    "crc32c": _start_crc32c,
    "crc64nvme": _start_crc64nvme,
    "sha1": lambda: sha1(usedforsecurity=False),
    "sha256": sha256,
}
