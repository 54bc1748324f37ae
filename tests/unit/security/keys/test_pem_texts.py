"""Texts of PEM blocks that are not keys; found by fuzzing, each raised an error of its own."""

import base64

import pytest

from security.errors import BadKey
from security.keys import keyfiles

BEGIN, END = "-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("inside", ["MC4C\u00e9", "\ufffd", "x\udcffy", "AAAA", "", "\0"])
def test_a_block_that_is_no_key_is_a_bad_key(inside: str) -> None:
    with pytest.raises(BadKey):
        keyfiles.parse_signer(BEGIN + inside + END, "trainer", where="the variable")


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_an_ed25519_key_of_another_length_is_a_bad_key(length: int) -> None:
    """OpenSSL's error came through as the library's InternalError."""
    head = bytes.fromhex("020100300506032b6570")
    key = bytes([4, length + 2, 4, length]) + bytes(length)
    der = bytes([0x30, len(head) + len(key)]) + head + key
    text = BEGIN + base64.b64encode(der).decode() + END
    with pytest.raises(BadKey):
        keyfiles.parse_signer(text, "trainer", where="the variable")
