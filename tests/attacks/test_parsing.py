"""Attacks 37 to 46: on parsers, names and files."""

import ast
import base64
import importlib.util
import io
import json
import os
import string
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from security.errors import Untrusted
from security.formats import canonical, envelope
from security.formats.envelope import INTOTO
from security.policy.documents import SizeLimits
from security.release.bundle import seal
from security.release.load import load_skops
from security.release.signing import verify_release

PACKAGES = ("security", "flows", "blocks", "storage")


def sign_text(target: Any, edit: Callable[[str], str]) -> None:
    """The releaser signs these very bytes, whatever they are."""
    path = target.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "").decode()
    edited = edit(payload)
    assert edited != payload
    path.write_bytes(envelope.sign(edited.encode(), INTOTO, target.keys.signers["releaser"]))


def test_37_a_duplicate_key_is_refused_wherever_it_stands(target: Any) -> None:
    sign_text(target, lambda text: text.replace('"version":1', '"version":1,"version":2'))
    assert "the document names a key twice" in target.verify()


@pytest.mark.parametrize("name", ["release.dsse.json", "recipients.json", "trust.dsse.json"])
def test_37_a_duplicate_key_of_an_unsigned_document_is_refused(target: Any, name: str) -> None:
    path = target.folder / name
    fields = json.loads(path.read_bytes())
    first = json.dumps({next(iter(fields)): next(iter(fields.values()))})
    path.write_text(first[:-1] + "," + json.dumps(fields)[1:])
    assert "names a key twice" in target.verify()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1.0", "1e0", "-0.5"])
def test_38_a_number_that_is_not_whole_is_refused(target: Any, number: str) -> None:
    sign_text(target, lambda text: text.replace('"version":1', f'"version":{number}'))
    assert "the document holds a number that is not whole" in target.verify()


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**30])
def test_38_an_integer_past_two_to_the_53_is_refused(target: Any, number: int) -> None:
    sign_text(target, lambda text: text.replace('"version":1', f'"version":{number}'))
    assert "the document holds a number past 2^53" in target.verify()


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000, "[" * 33 + "]" * 33])
def test_39_deep_nesting_is_a_typed_error(target: Any, deep: str) -> None:
    (target.folder / "release.dsse.json").write_text('{"payload":' + deep)
    assert "nested deeper than 32 levels" in target.verify()


def test_39_huge_digits_are_a_typed_error(target: Any) -> None:
    (target.folder / "release.dsse.json").write_text('{"payload":' + "9" * 1_000_000 + "}")
    assert "the document holds a number past 2^53" in target.verify()


def test_40_a_huge_envelope_is_refused_before_it_is_parsed(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = target.folder / "release.dsse.json"
    path.write_bytes(path.read_bytes() + b" " * 4 * 2**20)

    def never(*_given: Any, **_named: Any) -> Any:
        raise AssertionError("a document past its limit reached the parser")

    policy = target.keys.policy
    monkeypatch.setattr(canonical.json, "loads", never)
    with pytest.raises(Untrusted, match="larger than 4194304 bytes"):
        verify_release(target.folder, policy=policy)


def test_40_signature_and_recipient_counts_are_capped(target: Any) -> None:
    recipients = json.loads((target.folder / "recipients.json").read_bytes())
    stanza = recipients["recipients"][0]
    many = [{**stanza, "id": f"{number:064x}"} for number in range(65)]
    text = json.dumps({**recipients, "recipients": many})
    (target.folder / "recipients.json").write_text(text[: 256 * 1024])
    refusal = target.verify()
    assert "1 to 64 recipients" in refusal or "not valid JSON" in refusal
    target.edit("release.dsse.json", lambda fields: fields.update(signatures=[]))
    assert "an envelope has 1 to 16 signatures" in target.verify()


@pytest.mark.parametrize("spoil", [lambda t: t + "\n", lambda t: t.rstrip("="), lambda t: t + "="])
def test_41_non_canonical_base64_is_refused(target: Any, spoil: Callable[[str], str]) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["signatures"][0]["sig"] = spoil(fields["signatures"][0]["sig"])

    target.edit("release.dsse.json", change)
    assert "a signature is not base64" in target.verify()


def test_41_stray_trailing_bits_are_refused(target: Any) -> None:
    def change(fields: dict[str, Any]) -> None:
        text = fields["signatures"][0]["sig"]
        assert text.endswith("==")
        twin = next(
            text[:-3] + letter + "=="
            for letter in string.ascii_letters + string.digits
            if letter != text[-3]
            and base64.b64decode(text[:-3] + letter + "==") == base64.b64decode(text)
        )
        fields["signatures"][0]["sig"] = twin

    target.edit("release.dsse.json", change)
    assert "a signature is not base64 in canonical form" in target.verify()


@pytest.mark.parametrize("name", ["Model.onnx", "mod\u0435l.onnx", "a\u0301.onnx", "a\u202eb.onnx"])
def test_42_path_twins_are_refused(target: Any, name: str) -> None:
    def rename(statement: dict[str, Any]) -> None:
        statement["predicate"]["bundle"]["files"][0]["name"] = name
        statement["subject"][0]["name"] = name

    target.resign("release.dsse.json", "releaser", rename)
    assert "not a plain lower-case file name" in target.verify()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a\\b", "a\0b", "..", "nul", "con.onnx", "com1.txt", "a/b"]
)
def test_43_traversal_and_devices_are_refused_before_anything_is_opened(
    target: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(statement: dict[str, Any]) -> None:
        statement["predicate"]["bundle"]["files"][0]["name"] = name
        statement["subject"][0]["name"] = name

    target.resign("release.dsse.json", "releaser", rename)
    assert "not a plain lower-case file name" in target.verify()
    with pytest.raises(Untrusted, match="plain lower-case"):
        seal({name: target.model}, recipients=[], out=target.place / "out")
    assert not (target.place / "out").exists()


@pytest.mark.parametrize("plant", ["symbolic link", "hard link", "fifo"])
@pytest.mark.parametrize("name", ["card.md", "release.dsse.json", "payload/model.onnx.sealed"])
def test_44_links_and_fifos_are_refused(target: Any, plant: str, name: str) -> None:
    path, away = target.folder / name, target.place / "away"
    path.rename(away)
    if plant == "symbolic link":
        path.symlink_to(away)
    elif plant == "hard link":
        path.hardlink_to(away)
    else:
        os.mkfifo(path)
    refusal = target.verify()
    assert "is a link" in refusal or "not a regular file" in refusal


def test_44_a_link_in_the_payloads_place_is_refused(target: Any) -> None:
    away = target.place / "away"
    (target.folder / "payload").rename(away)
    (target.folder / "payload").symlink_to(away)
    assert "payload is not a folder" in target.verify()


def test_45_there_is_no_generic_unpacking_anywhere() -> None:
    """One module of the installed packages opens an archive, and reads it entry by entry."""
    importers = set()
    for package in PACKAGES:
        for place in importlib.util.find_spec(package).submodule_search_locations:
            for path in Path(place).rglob("*.py"):
                nodes = list(ast.walk(ast.parse(path.read_text())))
                called = [node.func for node in nodes if isinstance(node, ast.Call)]
                named = {getattr(call, "attr", getattr(call, "id", "")) for call in called}
                assert not named & {"extractall", "unpack_archive", "extract"}, path
                imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
                imported |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
                if imported & {"zipfile", "tarfile", "shutil.unpack_archive", "py7zr"}:
                    importers.add(f"{package}/{path.relative_to(place)}")
    assert importers == {"security/release/load.py"}


def bomb(entries: int, size: int) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b'{"protocol":2}')
        for number in range(entries):
            archive.writestr(f"{number}.npy", bytes(size))
    return held.getvalue()


@pytest.mark.parametrize(
    ("entries", "size", "reason"), [(1, 2**24, "expands past"), (200, 1, "too many entries")]
)
def test_46_a_decompression_bomb_is_refused_before_it_is_loaded(
    tmp_path: Path, entries: int, size: int, reason: str
) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(bomb(entries, size))
    assert path.stat().st_size < 2**16
    limits = replace(SizeLimits(), expanded_bytes=2**20, entries=100)
    with pytest.raises(Untrusted, match=reason):
        load_skops(path, trusted=(), limits=limits)
