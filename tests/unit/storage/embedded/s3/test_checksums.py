"""Checksums against published vectors, and against themselves however a body is cut."""

import base64
import zlib
from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.s3.checksums import check_checksum, start_checksum
from storage.embedded.s3.errors import S3Refused

# RFC 3720 (iSCSI), appendix B.4; the NVM Express specification 2.0, section 5.2.1.3.4.
CRC32C = {
    b"123456789": "e3069283",
    bytes(32): "8a9136aa",
    b"\xff" * 32: "62a8ab43",
    bytes(range(32)): "46dd794e",
    bytes(range(31, -1, -1)): "113fdb5c",
}
CRC64NVME = {
    b"123456789": "ae8b14860a799888",
    bytes(4096): "6482d367eb22b64e",
    b"\xff" * 4096: "c0ddba7302eca3ac",
    (bytes(range(256)) * 16): "3e729f5f6750449c",
    (bytes(range(255, -1, -1)) * 16): "9a2df64b8e9e517e",
}


VECTORS = [("crc32c", *pair) for pair in CRC32C.items()]
VECTORS += [("crc64nvme", *pair) for pair in CRC64NVME.items()]
VECTORS += [("crc32", b"123456789", "cbf43926")]


def digest(name, *pieces):
    running = start_checksum(f"x-amz-checksum-{name}")
    for piece in pieces:
        running.update(piece)
    return running.digest()


@pytest.mark.parametrize(("name", "content", "expected"), VECTORS)
def test_a_crc_has_the_values_of_its_specification(name, content, expected):
    assert digest(name, content).hex() == expected


@pytest.mark.parametrize(("name", "size"), [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8)])
def test_the_crc_of_nothing_is_zero(name, size):
    assert digest(name) == bytes(size)


@given(st.integers(0, 9000), st.integers(1, 5000), st.randoms(use_true_random=False))
def test_how_a_body_is_cut_makes_no_difference(length, piece, random):
    content = random.randbytes(length)
    pieces = [content[at : at + piece] for at in range(0, length, piece)]
    for name in ("crc32", "crc32c", "crc64nvme"):
        assert digest(name, *pieces) == digest(name, content)
    assert digest("crc32", *pieces) == zlib.crc32(content).to_bytes(4)


def test_the_names_are_those_of_the_headers():
    assert digest("SHA1", b"x") == sha1(b"x").digest()
    assert digest("sha256", b"x") == sha256(b"x").digest()
    assert digest("CRC32C", b"123456789").hex() == "e3069283"
    with pytest.raises(S3Refused, match="md5 is not implemented"):
        start_checksum("x-amz-checksum-md5")


def test_a_checksum_is_compared_as_base64():
    running = start_checksum("x-amz-checksum-crc32")
    running.update(b"content")
    check_checksum(running, f" {base64.b64encode(running.digest()).decode()}\r")
    with pytest.raises(S3Refused) as caught:
        check_checksum(running, "AAAAAA==")
    assert caught.value.code == "XAmzContentChecksumMismatch"
