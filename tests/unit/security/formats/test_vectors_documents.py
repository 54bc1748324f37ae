"""Documents and trees judged by other people's vectors: RFC 8785 and RFC 6962."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from security.audit import merkle
from security.errors import Untrusted
from security.formats import canonical

VECTORS = Path(__file__).parents[1] / "vectors"


def read_vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["tests"]
    return found


def hexed(text: str | None) -> str:
    return base64.b64decode(text or "").hex()


@pytest.mark.parametrize("vector", read_vectors("rfc8785"), ids=lambda v: v["name"])
def test_our_canonical_form_is_that_of_rfc_8785(vector: dict[str, Any]) -> None:
    """Its numbers with a fraction or an exponent are refused: ours are whole, or decimal text."""
    fractional = {"structures": "56.0", "values": "333333333.33333329"}
    if vector["name"] in fractional:
        assert fractional[vector["name"]] in vector["input"]
        with pytest.raises(Untrusted, match="not whole"):
            canonical.parse(vector["input"].encode())
        whole = vector["input"].replace("56.0", "56")
        if vector["name"] == "values":
            return
        assert canonical.encode(json.loads(whole)).decode() == vector["output"]
        return
    assert canonical.encode(json.loads(vector["input"])).decode() == vector["output"]


def test_our_escapes_are_those_of_rfc_8785() -> None:
    """Section 3.2.2.2's string, without the section's fractional numbers."""
    values = next(v for v in read_vectors("rfc8785") if v["name"] == "values")
    given, expected = json.loads(values["input"]), json.loads(values["output"])
    assert canonical.encode({"string": given["string"]}).decode() in (
        '{"string":' + values["output"].split('"string":')[1]
    )
    assert given["string"] == expected["string"]


@pytest.mark.parametrize("vector", read_vectors("rfc6962_inclusion"), ids=lambda v: v["name"])
def test_our_inclusion_proofs_hold_and_fail_as_others_do(vector: dict[str, Any]) -> None:
    def verify() -> None:
        merkle.verify_inclusion(
            base64.b64decode(vector["leafHash"] or ""),
            vector["leafIdx"],
            vector["treeSize"],
            [hexed(step) for step in vector["proof"] or []],
            hexed(vector["root"]),
        )

    if not vector["wantErr"]:
        verify()
        return
    with pytest.raises(Untrusted):
        verify()


@pytest.mark.parametrize("vector", read_vectors("rfc6962_consistency"), ids=lambda v: v["name"])
def test_our_consistency_proofs_hold_and_fail_as_others_do(vector: dict[str, Any]) -> None:
    def verify() -> None:
        merkle.verify_consistency(
            vector["size1"],
            hexed(vector["root1"]),
            vector["size2"],
            hexed(vector["root2"]),
            [hexed(step) for step in vector["proof"] or []],
        )

    if not vector["wantErr"]:
        verify()
        return
    with pytest.raises(Untrusted):
        verify()
