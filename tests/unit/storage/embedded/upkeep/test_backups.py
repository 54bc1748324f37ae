"""Backups: consistent while written to, incremental, complete or not there, and restorable."""

import errno
import os
import threading

import apsw
import pytest

from storage.embedded.bytes.erasure import erase
from storage.embedded.bytes.folder_locks import claim_bytes
from storage.embedded.errors import DiskFull, Gone
from storage.embedded.graph import repositories
from storage.embedded.keys.access_keys import Grant
from storage.embedded.keys.keyring import Keyring
from storage.embedded.upkeep import backups, copies
from storage.embedded.upkeep.backups import back_up, newest_backup, read_backup, restore
from storage.embedded.upkeep.check import check
from storage.errors import Damaged, NotFound, Refused, Unavailable


@pytest.mark.parametrize("copy", [False, True])
def test_a_restored_lake_is_the_lake_of_the_backup(kept, opened, tmp_path, copy):
    kept.put("a", b"one")
    first = kept.commit()
    kept.put("a", b"two")
    kept.commit()
    kept.put("staged", b"three")
    made = back_up(kept.root, tmp_path / "saved", copy=copy)
    assert (made.commits, made.objects, made.linked) == (3, 3, not copy)
    assert check(tmp_path / "saved", deep=True).is_sound
    restore(tmp_path / "saved", tmp_path / "again")
    again = opened(tmp_path / "again")
    assert again.content("a", first) == b"one"
    assert again.content("a") == b"two"
    assert again.content("staged") == b"three"
    assert again.keys("main@") == ["a"]
    again.put("b", b"four")
    again.commit()
    assert check(again.root, deep=True).is_sound


def test_a_second_run_adds_what_is_new_and_drops_what_is_gone(kept, tmp_path):
    kept.put("a", b"one")
    kept.commit()
    kept.put("forgotten", b"two")
    gone = kept.blob("forgotten")
    back_up(kept.root, tmp_path / "saved")
    kept.delete("forgotten")
    kept.put("b", b"three")
    kept.commit()
    made = back_up(kept.root, tmp_path / "saved")
    assert (made.objects, made.new_objects) == (2, 1)
    assert not (tmp_path / "saved" / gone.relative_to(kept.root)).exists()
    assert check(tmp_path / "saved", deep=True).is_sound


@pytest.mark.parametrize("has_data", [False, True])
def test_another_lake_or_an_empty_one_does_not_replace_a_backup(kept, opened, tmp_path, has_data):
    kept.put("a", b"one")
    kept.commit()
    made = back_up(kept.root, tmp_path / "saved")
    other = opened(tmp_path / "other")
    if has_data:
        other.lake.write(
            lambda view: repositories.create_repository(
                view.rows, "repo", "local://repo", "main", read_only=False
            )
        )
    with pytest.raises(Refused, match="backup of another lake"):
        back_up(other.root, tmp_path / "saved")
    assert read_backup(tmp_path / "saved") == made
    restore(tmp_path / "saved", tmp_path / "again")
    assert opened(tmp_path / "again").content("a") == b"one"


def test_a_backup_that_goes_on_during_a_restore_does_not_change_what_is_restored(
    kept, opened, tmp_path
):
    kept.put("a", b"one")
    kept.commit()
    back_up(kept.root, tmp_path / "saved")

    def meanwhile(_):
        kept.put("b", b"two")
        kept.commit()
        back_up(kept.root, tmp_path / "saved")

    restore(tmp_path / "saved", tmp_path / "again", tell=meanwhile)
    assert check(tmp_path / "again", deep=True).is_sound
    assert opened(tmp_path / "again").keys() == ["a"]


def test_a_backup_on_a_read_only_disk_is_checked_and_restored(kept, tmp_path, monkeypatch):
    kept.put("a", b"one")
    kept.commit()
    back_up(kept.root, tmp_path / "saved")
    (tmp_path / "saved" / "collection.lock").unlink(missing_ok=True)
    real = os.open

    def read_only(path, flags, *mode, **named):
        if str(path).startswith(str(tmp_path / "saved")) and flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *mode, **named)

    monkeypatch.setattr(os, "open", read_only)
    assert check(tmp_path / "saved").is_sound
    restore(tmp_path / "saved", tmp_path / "again")
    assert check(tmp_path / "again", deep=True).is_sound
    with pytest.raises(OSError, match="Read-only"), claim_bytes(tmp_path / "saved"):
        pass


def test_keys_that_were_removed_leave_the_backup_too(kept, tmp_path):
    Keyring(kept.root).create("reader", (Grant.parse("read:repo"),))
    back_up(kept.root, tmp_path / "saved")
    assert (tmp_path / "saved" / "keys.sqlite").exists()
    (kept.root / "keys.sqlite").unlink()
    back_up(kept.root, tmp_path / "saved")
    assert not (tmp_path / "saved" / "keys.sqlite").exists()


def test_a_backup_whose_graph_is_ruined_is_made_anew(kept, tmp_path):
    back_up(kept.root, tmp_path / "saved")
    (tmp_path / "saved" / "graph.sqlite").write_bytes(b"ruined" * 1000)
    back_up(kept.root, tmp_path / "saved")
    assert check(tmp_path / "saved", deep=True).is_sound


def test_a_backup_while_others_write_is_one_moment_of_the_lake(kept, opened, tmp_path):
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            kept.put("left", f"{number}".encode())
            kept.put("right", f"{number}".encode())
            kept.commit()
            number += 1

    thread = threading.Thread(target=write)
    kept.put("left")
    kept.put("right")
    kept.commit()
    thread.start()
    try:
        for _ in range(5):
            back_up(kept.root, tmp_path / "saved")
            assert check(tmp_path / "saved", deep=True).is_sound
    finally:
        stop.set()
        thread.join()
    restore(tmp_path / "saved", tmp_path / "again")
    again = opened(tmp_path / "again")
    assert again.content("left", "main@") == again.content("right", "main@")


def test_an_object_that_the_lake_lost_stops_the_backup_and_the_last_one_stands(kept, tmp_path):
    kept.put("a", b"one")
    kept.commit()
    before = back_up(kept.root, tmp_path / "saved")
    kept.put("b", b"two")
    kept.commit()
    lost = kept.blob("b")
    lost.write_bytes(b"owt")
    with pytest.raises(Damaged, match=lost.name):
        back_up(kept.root, tmp_path / "saved")
    assert read_backup(tmp_path / "saved") == before
    restore(tmp_path / "saved", tmp_path / "again")
    assert check(tmp_path / "again", deep=True).is_sound


@pytest.mark.parametrize(
    ("module", "work", "error"),
    [
        (copies.os, "link", OSError(errno.ENOSPC, "No space left on device")),
        (backups, "copy_database", apsw.FullError("database or disk is full")),
    ],
)
def test_a_full_disk_stops_the_backup_and_the_last_one_stands(
    kept, tmp_path, monkeypatch, module, work, error
):
    kept.put("a", b"one")
    kept.commit()
    before = back_up(kept.root, tmp_path / "saved")
    kept.put("b", b"two")
    kept.commit()

    def full(*_):
        raise error

    monkeypatch.setattr(module, work, full)
    with pytest.raises(DiskFull):
        back_up(kept.root, tmp_path / "saved")
    assert read_backup(tmp_path / "saved") == before
    assert check(tmp_path / "saved").is_sound


def test_bytes_that_cannot_be_linked_are_copied(kept, tmp_path, monkeypatch):
    kept.put("a", b"one")
    kept.commit()

    def elsewhere(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(copies.os, "link", elsewhere)
    made = back_up(kept.root, tmp_path / "saved")
    assert not made.linked
    assert check(tmp_path / "saved", deep=True).is_sound


def test_a_restore_never_writes_over_data(kept, tmp_path):
    kept.put("a", b"one")
    kept.commit()
    back_up(kept.root, tmp_path / "saved")
    with pytest.raises(Unavailable, match="serving"):
        restore(tmp_path / "saved", kept.root)
    kept.lake.close()
    with pytest.raises(Refused, match="not empty"):
        restore(tmp_path / "saved", kept.root)


def test_an_empty_lake_takes_a_restore_and_keeps_nothing_of_its_own(kept, opened, tmp_path):
    kept.put("a", b"one")
    kept.commit()
    back_up(kept.root, tmp_path / "saved")
    opened(tmp_path / "empty").lake.close()
    restore(tmp_path / "saved", tmp_path / "empty")
    assert opened(tmp_path / "empty").content("a") == b"one"


def test_a_restore_from_a_damaged_backup_leaves_an_empty_lake_and_may_be_repeated(
    kept, opened, tmp_path
):
    kept.put("a", b"one")
    kept.commit()
    back_up(kept.root, tmp_path / "saved", copy=True)
    blob = tmp_path / "saved" / kept.blob("a").relative_to(kept.root)
    blob.write_bytes(b"eno")
    with pytest.raises(Damaged, match=blob.name):
        restore(tmp_path / "saved", tmp_path / "again")
    assert not (tmp_path / "again" / "graph.sqlite").exists()
    blob.write_bytes(b"one")
    restore(tmp_path / "saved", tmp_path / "again")
    assert opened(tmp_path / "again").content("a") == b"one"


def test_a_folder_with_something_else_in_it_is_refused(kept, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(Refused, match="no backup"):
        back_up(kept.root, tmp_path / "photos")
    with pytest.raises(NotFound):
        restore(tmp_path / "photos", tmp_path / "again")


def test_no_backup_runs_during_a_collection(kept, tmp_path):
    with claim_bytes(kept.root), pytest.raises(Unavailable, match="collection"):
        back_up(kept.root, tmp_path / "saved")


def test_the_newest_backup_that_is_still_there_is_known(kept, tmp_path):
    assert newest_backup(kept.root) is None
    back_up(kept.root, tmp_path / "one")
    back_up(kept.root, tmp_path / "two")
    (tmp_path / "two" / "backup.json").unlink()
    found = newest_backup(kept.root)
    assert found is not None
    assert found.folder == str(tmp_path / "one")


def test_what_was_erased_on_purpose_is_no_damage_and_leaves_the_backups_too(kept, opened, tmp_path):
    kept.put("person", b"their rows")
    kept.put("other", b"other rows")
    commit = kept.commit()
    back_up(kept.root, tmp_path / "saved")
    blob = kept.blob("person")
    assert erase(f"local://{blob.absolute()}")
    assert check(kept.root, deep=True).is_sound
    back_up(kept.root, tmp_path / "saved")
    assert not (tmp_path / "saved" / blob.relative_to(kept.root)).exists()
    assert check(tmp_path / "saved", deep=True).is_sound
    restore(tmp_path / "saved", tmp_path / "again")
    again = opened(tmp_path / "again")
    assert again.content("other", commit) == b"other rows"
    with pytest.raises(Gone):
        again.content("person", commit)
