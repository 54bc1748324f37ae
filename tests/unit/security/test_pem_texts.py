"""Texts of PEM blocks that are not keys; found by fuzzing, each raised an error of its own."""

import pytest

from security import keyfiles
from security.errors import BadKey

BEGIN, END = "-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("inside", ["MC4C\u00e9", "\ufffd", "x\udcffy", "AAAA", "", "\0"])
def test_a_block_that_is_no_key_is_a_bad_key(inside: str) -> None:
    with pytest.raises(BadKey):
        keyfiles.signer_of(BEGIN + inside + END, "trainer", where="the variable")
