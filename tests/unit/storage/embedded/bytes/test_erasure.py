import hashlib
from pathlib import Path

import pytest

from storage.embedded.bytes.blobs import Blobs
from storage.embedded.bytes.erasure import erase, is_erased
from storage.embedded.bytes.folder_locks import keep_bytes
from storage.embedded.disk import Health
from storage.embedded.errors import Gone, find_http_status
from storage.errors import Damaged, Unavailable

CONTENT = b"about somebody"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    found = Blobs(tmp_path, Health(tmp_path / "suspect"))
    put(found)
    return found


def put(blobs: Blobs) -> None:
    incoming = blobs.receive()
    incoming.write(CONTENT)
    blobs.keep(incoming)


def read(blobs: Blobs) -> bytes:
    return b"".join(blobs.read(DIGEST, len(CONTENT), 0, len(CONTENT)))


def address(blobs: Blobs) -> str:
    return f"local://{blobs.path(DIGEST)}"


def test_erased_bytes_are_gone_and_are_no_damage(blobs: Blobs, tmp_path: Path) -> None:
    assert erase(address(blobs))
    assert not blobs.path(DIGEST).exists()
    assert is_erased(tmp_path, DIGEST)
    with pytest.raises(Gone, match="No data") as gone:
        read(blobs)
    assert find_http_status(gone.value) == 410
    assert erase(address(blobs))


def test_bytes_that_are_written_again_are_there_again(blobs: Blobs) -> None:
    erase(address(blobs))
    put(blobs)
    assert read(blobs) == CONTENT
    assert erase(address(blobs))
    with pytest.raises(Gone):
        read(blobs)


def test_nothing_is_erased_while_a_backup_reads(blobs: Blobs, tmp_path: Path) -> None:
    with keep_bytes(tmp_path), pytest.raises(Unavailable, match="under way"):
        erase(address(blobs))
    assert read(blobs) == CONTENT


def test_a_lost_blob_is_still_damage(blobs: Blobs) -> None:
    blobs.path(DIGEST).unlink()
    with pytest.raises(Damaged):
        read(blobs)


@pytest.mark.parametrize(
    "make",
    [
        lambda root, _: f"s3://bucket/{root}/blobs/ab/cd",
        lambda root, _: f"local://{root}/precious",
        lambda root, digest: f"local://{root}/other/blobs/{digest[:2]}/{digest[2:]}",
        lambda root, digest: f"local://{root}/../blobs/{digest[:2]}/{digest[2:]}",
    ],
)
def test_nothing_but_a_blob_named_by_its_own_digest_is_erased(tmp_path: Path, make: object) -> None:
    (tmp_path / "precious").write_bytes(b"x")
    digest = hashlib.sha256(b"other content").hexdigest()
    other = tmp_path / "other" / "blobs" / digest[:2] / digest[2:]
    other.parent.mkdir(parents=True)
    other.write_bytes(b"not what its name says")
    assert not erase(make(tmp_path, digest))  # type: ignore[operator]
    assert (tmp_path / "precious").exists()
    assert other.exists()
