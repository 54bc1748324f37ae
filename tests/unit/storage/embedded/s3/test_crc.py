"""The two CRCs against published vectors, and against themselves however a body is cut."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embedded.s3.chunked import checksum
from storage.embedded.s3.crc import Crc, crc32c, crc64nvme

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


@pytest.mark.parametrize(("content", "expected"), CRC32C.items())
def test_crc32c_has_the_values_of_its_rfc(content, expected):
    crc = crc32c()
    crc.update(content)
    assert crc.digest().hex() == expected


@pytest.mark.parametrize(("content", "expected"), CRC64NVME.items())
def test_crc64nvme_has_the_values_of_its_specification(content, expected):
    crc = crc64nvme()
    crc.update(content)
    assert crc.digest().hex() == expected


@given(st.integers(0, 9000), st.integers(1, 5000), st.randoms(use_true_random=False))
def test_how_a_body_is_cut_makes_no_difference(length, piece, random):
    content = random.randbytes(length)
    whole, cut = Crc(0xEDB88320, 32), Crc(0xEDB88320, 32)
    whole.update(content)
    for at in range(0, length, piece):
        cut.update(content[at : at + piece])
    expected = zlib.crc32(content).to_bytes(4)
    assert (whole.digest(), cut.digest()) == (expected, expected)


def test_the_names_are_those_of_the_headers():
    for name in ("CRC32", "crc32c", "crc64nvme", "sha1", "SHA256"):
        checksum(f"x-amz-checksum-{name}").update(b"")
