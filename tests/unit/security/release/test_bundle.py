import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.cobblestone import Cobblestone256Encryptor

from security.errors import CannotDecrypt, Untrusted
from security.keys.pairs import Recipient
from security.release import bundle as bundles
from security.release import stanzas
from security.release.bundle import add_recipient, open_bundle, seal

UNIFORM = "the sealed payload does not open with this key"
HEADER, CHUNK = 56, 16 * 1024 + 16


def pieces(data: bytes) -> list[bytes]:
    """A Cobblestone stream's header and chunks."""
    return [data[:HEADER], *(data[at : at + CHUNK] for at in range(HEADER, len(data), CHUNK))]


def flip(place: int) -> Callable[[bytes], bytes]:
    def tamper(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= 1
        return bytes(changed)

    return tamper


def reorder(data: bytes) -> bytes:
    header, first, second, *rest = pieces(data)
    return b"".join([header, second, first, *rest])


def duplicate(data: bytes) -> bytes:
    header, first, _second, *rest = pieces(data)
    return b"".join([header, first, first, *rest])


def open_tampered(
    home: Any, released: SimpleNamespace, into: Path, tamper: Callable[[bytes], bytes]
) -> None:
    path = released.folder / "payload" / "model.onnx.sealed"
    path.write_bytes(tamper(path.read_bytes()))
    open_bundle(released.folder, released.release, recipient=home.recipient, into=into)


@pytest.mark.parametrize(
    "tamper",
    [flip(0), flip(30), flip(HEADER), flip(40_000), flip(-1), reorder, duplicate],
    ids=["salt", "commitment", "first", "middle", "last", "reordered", "duplicated"],
)
def test_a_tampered_stream_does_not_open_and_leaves_nothing(
    home: Any, released: SimpleNamespace, tmp_path: Path, tamper: Callable[[bytes], bytes]
) -> None:
    into = tmp_path / "private" / "open"
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        open_tampered(home, released, into, tamper)
    assert list(into.parent.iterdir()) == []


@pytest.mark.parametrize(
    "tamper",
    [lambda data: data[:-1], lambda data: data[: HEADER + CHUNK], lambda data: data + b"x"],
    ids=["a byte short", "cut between chunks", "a byte appended"],
)
def test_a_wrong_length_is_refused_before_reading(
    home: Any, released: SimpleNamespace, tmp_path: Path, tamper: Callable[[bytes], bytes]
) -> None:
    into = tmp_path / "private" / "open"
    with pytest.raises(Untrusted, match="signed length"):
        open_tampered(home, released, into, tamper)
    assert not into.exists()


def test_truncation_at_a_chunk_is_caught_even_if_the_length_were_signed(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    path = released.folder / "payload" / "model.onnx.sealed"
    cut = path.read_bytes()[: HEADER + CHUNK]
    path.write_bytes(cut)
    files = tuple(
        replace(file, sealed_size=len(cut)) if file.name == "model.onnx" else file
        for file in released.release.bundle.files
    )
    signed = replace(released.release, bundle=replace(released.release.bundle, files=files))
    into = tmp_path / "private" / "open"
    with pytest.raises(CannotDecrypt):
        open_bundle(released.folder, signed, recipient=home.recipient, into=into)
    assert list(into.parent.iterdir()) == []


def test_two_files_of_one_bundle_swapped_do_not_open(home: Any, tmp_path: Path) -> None:
    same = {"a.bin": b"a" * 50_000, "b.bin": b"b" * 50_000}
    release = home.make_release(tmp_path / "p", tmp_path / "1", files=same)
    a, b = (tmp_path / "1" / "payload" / f"{name}.sealed" for name in same)
    spare = tmp_path / "spare"
    a.rename(spare)
    b.rename(a)
    spare.rename(b)
    with pytest.raises(CannotDecrypt):
        open_bundle(tmp_path / "1", release, recipient=home.recipient, into=tmp_path / "open")


def test_a_payload_of_another_bundle_does_not_open(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    home.make_release(tmp_path / "p", other)
    name = "payload/model.onnx.sealed"
    shutil.copy(other / name, released.folder / name)
    with pytest.raises(CannotDecrypt):
        open_bundle(
            released.folder, released.release, recipient=home.recipient, into=tmp_path / "open"
        )


def test_stanzas_of_another_bundle_are_refused(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    home.make_release(tmp_path / "p", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "recipients.json", released.folder / "recipients.json")
    with pytest.raises(Untrusted, match="another bundle"):
        open_bundle(
            released.folder, released.release, recipient=home.recipient, into=tmp_path / "o"
        )


def test_a_foreign_stanza_under_the_right_ids_does_not_open(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    """The wrap binds bundle and recipient: pasting another bundle's wrapped key does not help."""
    other = tmp_path / "other"
    home.make_release(tmp_path / "p", other)
    path = released.folder / "recipients.json"
    listed = json.loads(path.read_bytes())
    del listed["sha256"]
    pasted = json.loads((other / "recipients.json").read_bytes())["recipients"][0]
    listed["recipients"] = [pasted]
    path.write_text(json.dumps(listed))
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        open_bundle(
            released.folder, released.release, recipient=home.recipient, into=tmp_path / "o"
        )


def test_another_recipients_stanza_does_not_open(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    stranger = Recipient.generate()
    path = released.folder / "recipients.json"
    listed = json.loads(path.read_bytes())
    del listed["sha256"]
    listed["recipients"][0]["id"] = stranger.public.recipient_id
    path.write_text(json.dumps(listed))
    for key in (stranger, home.recipient):
        with pytest.raises(CannotDecrypt, match=UNIFORM):
            open_bundle(released.folder, released.release, recipient=key, into=tmp_path / "o")


def test_a_stream_under_a_second_key_fails_its_commitment(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    """A recipient given another bundle key cannot be shown another model."""
    evil = Cobblestone256Encryptor.generate_key()
    stanza = stanzas.wrap_key(
        evil,
        bundle_id=released.release.bundle.bundle_id,
        recipient=home.recipient.public,
    )
    listed = stanzas.read_stanzas(released.folder)
    stanzas.write_stanzas(released.folder, replace(listed, recipients=(stanza,)))
    with pytest.raises(CannotDecrypt, match=UNIFORM):
        open_bundle(
            released.folder, released.release, recipient=home.recipient, into=tmp_path / "o"
        )


def test_every_refusal_to_decrypt_reads_the_same(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(CannotDecrypt) as absent:
        open_bundle(
            released.folder, released.release, recipient=Recipient.generate(), into=tmp_path / "o"
        )
    with pytest.raises(CannotDecrypt) as damaged:
        open_tampered(home, released, tmp_path / "o", flip(-1))
    assert str(absent.value) == str(damaged.value)
    assert absent.value.remedy == damaged.value.remedy
    assert absent.value.__cause__ is damaged.value.__cause__ is None
    assert damaged.value.__suppress_context__


def test_sealing_twice_shares_no_key_id_or_bytes(home: Any, tmp_path: Path, written: Any) -> None:
    files = written(tmp_path / "p", {"model.onnx": b"same" * 1000})
    first, second = (
        seal(files, recipients=home.policy.recipients, out=tmp_path / str(n)) for n in (1, 2)
    )
    assert first.sealed.bundle_id != second.sealed.bundle_id
    assert first.sealed.files[0].sealed_sha256 != second.sealed.files[0].sealed_sha256
    assert first.sealed.subjects == second.sealed.subjects


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 256 * 1024, 256 * 1024 + 1, 700_000])
def test_sizes_around_every_boundary_come_back(home: Any, tmp_path: Path, size: int) -> None:
    data = bytes(n * 7 % 251 for n in range(size))
    release = home.make_release(tmp_path / "p", tmp_path / "1", files={"model.onnx": data})
    into = open_bundle(tmp_path / "1", release, recipient=home.recipient, into=tmp_path / "open")
    assert (into / "model.onnx").read_bytes() == data
    assert release.bundle.files[0].sealed_size == size + 56 + 16 * (size // 16384 + 1)


def test_an_added_recipient_opens_the_untouched_payload(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (released.folder / "payload").iterdir()}
    new = Recipient.generate()
    for _ in range(2):
        add_recipient(released.folder, recipient=home.recipient, new=new.public)
    assert len(stanzas.read_stanzas(released.folder).recipients) == 3
    assert before == {path: path.read_bytes() for path in (released.folder / "payload").iterdir()}
    for number, key in enumerate((new, home.recipient)):
        open_bundle(released.folder, released.release, recipient=key, into=tmp_path / f"o{number}")


def test_a_stranger_cannot_add_a_recipient(released: SimpleNamespace) -> None:
    before = (released.folder / "recipients.json").read_bytes()
    stranger, friend = Recipient.generate(), Recipient.generate()
    with pytest.raises(CannotDecrypt):
        add_recipient(released.folder, recipient=stranger, new=friend.public)
    assert (released.folder / "recipients.json").read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\x00b",
        "",
        ".",
        "..",
        ".hidden",
        "Model.onnx",
        "mod\u0435l.onnx",
        "a\u0301.onnx",
        "a\u202eb.onnx",
        "model.onnx.",
        "model.onnx ",
        "nul",
        "con.onnx",
        "com1",
        "x" * 101,
        "model.onnx\n",
    ],
)
def test_a_name_that_could_be_two_names_or_another_place_is_refused(
    home: Any, tmp_path: Path, name: str
) -> None:
    source = tmp_path / "plain"
    source.write_bytes(b"x")
    with pytest.raises(Untrusted):
        seal({name: source}, recipients=home.policy.recipients, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("plant", ["symlink", "hard link", "folder", "nothing"])
def test_only_regular_files_are_sealed(home: Any, tmp_path: Path, plant: str) -> None:
    real, path = tmp_path / "real", tmp_path / "model.onnx"
    real.write_bytes(b"x")
    if plant == "symlink":
        path.symlink_to(real)
    elif plant == "hard link":
        path.hardlink_to(real)
    elif plant == "folder":
        path.mkdir()
    with pytest.raises(Untrusted):
        seal({"model.onnx": path}, recipients=home.policy.recipients, out=tmp_path / "d" / "out")
    assert list((tmp_path / "d").iterdir()) == []


def test_nothing_is_overwritten(home: Any, released: SimpleNamespace, tmp_path: Path) -> None:
    into = tmp_path / "open"
    into.mkdir()
    (into / "mine").write_text("keep")
    with pytest.raises(FileExistsError):
        open_bundle(released.folder, released.release, recipient=home.recipient, into=into)
    assert (into / "mine").read_text() == "keep"


def test_a_full_disk_half_way_leaves_nothing(
    home: Any, released: SimpleNamespace, tmp_path: Path, limited_files: Callable[[int], Any]
) -> None:
    into = tmp_path / "private" / "open"
    with limited_files(20_000), pytest.raises(OSError, match="File too large"):
        open_bundle(released.folder, released.release, recipient=home.recipient, into=into)
    assert list(into.parent.iterdir()) == []


def test_recipient_counts_and_sizes_are_capped(
    home: Any, released: SimpleNamespace, tmp_path: Path, written: Any
) -> None:
    path = released.folder / "recipients.json"
    listed = json.loads(path.read_bytes())
    del listed["sha256"]
    stanza = listed["recipients"][0]
    for bad in ([], [stanza, stanza], [{**stanza, "id": f"{n:064x}"} for n in range(65)]):
        path.write_text(json.dumps({**listed, "recipients": bad}))
        with pytest.raises(Untrusted, match="1 to 64 recipients"):
            stanzas.read_stanzas(released.folder)
    path.write_text(json.dumps(listed) + " " * 300_000)
    with pytest.raises(Untrusted, match="larger than"):
        stanzas.read_stanzas(released.folder)
    files = written(tmp_path / "p", {"a": b"x"})
    for nobody in ([], [home.recipient.public] * 2):
        with pytest.raises(Untrusted, match="1 to 64 recipients"):
            seal(files, recipients=nobody, out=tmp_path / "out")


def test_a_damaged_stanza_is_seen_without_a_key(home: Any, released: SimpleNamespace) -> None:
    path = released.folder / "recipients.json"
    wrapped = json.loads(path.read_bytes())["recipients"][0]["wrapped"]
    damaged = wrapped[:40] + ("A" if wrapped[40] != "A" else "B") + wrapped[41:]
    path.write_text(path.read_text().replace(wrapped, damaged))
    with pytest.raises(Untrusted, match="damaged"):
        bundles.check_bundle(released.folder, released.release.bundle)


def test_base64_in_another_form_is_refused_in_stanzas(released: SimpleNamespace) -> None:
    path = released.folder / "recipients.json"
    listed = json.loads(path.read_bytes())
    del listed["sha256"]
    wrapped = listed["recipients"][0]["wrapped"]
    assert wrapped.endswith("=")
    last = wrapped.rstrip("=")[-1]
    stray = chr(ord(last) + 1) if last.isalpha() and last not in "zZ" else "B"
    for bad in (wrapped.rstrip("="), wrapped.rstrip("=")[:-1] + stray + "=", wrapped + "\n"):
        listed["recipients"][0]["wrapped"] = bad
        path.write_text(json.dumps(listed))
        with pytest.raises(Untrusted):
            stanzas.read_stanzas(released.folder)


def test_an_unknown_suite_is_refused_whoever_names_it(
    home: Any, released: SimpleNamespace, tmp_path: Path
) -> None:
    path = released.folder / "recipients.json"
    listed = json.loads(path.read_bytes())
    del listed["sha256"]
    path.write_text(json.dumps({**listed, "suite": "none"}))
    with pytest.raises(Untrusted, match="suite"):
        open_bundle(
            released.folder, released.release, recipient=home.recipient, into=tmp_path / "o"
        )
    weaker = replace(released.release.bundle, suite="none")
    with pytest.raises(Untrusted, match="unknown suite"):
        bundles.check_bundle(released.folder, weaker)
