"""What a check finds, what it says is lost, and what a damaged lake answers at boot."""

import json

import apsw
import pytest

from storage.embedded.sqlite import check_sqlite
from storage.embedded.upkeep.backups import back_up
from storage.embedded.upkeep.boot import open_sound
from storage.embedded.upkeep.check import check
from storage.errors import Damaged, NotFound, Unavailable


def flip(path, at=0):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def meddle(root, *statements):
    rows = apsw.Connection(str(root / "graph.sqlite"))
    for statement in statements:
        rows.execute(statement)
    rows.close()


def test_a_sound_lake_has_no_problem_and_everything_is_counted(kept):
    kept.put("a", b"12345")
    kept.commit()
    kept.put("same", b"12345")
    kept.put("staged", b"123")
    report = check(kept.root)
    assert report.is_sound
    assert (report.commits, report.objects, report.octets) == (2, 2, 8)


def test_a_flipped_bit_is_named_with_its_paths_and_every_commit_that_has_it(kept):
    kept.put("folder/bad", b"content")
    kept.put("good", b"other")
    first = kept.commit()
    kept.put("more", b"more")
    second = kept.commit()
    kept.delete("folder/bad")
    kept.commit()
    kept.put("again", b"content")
    flip(kept.blob("folder/bad", first))
    (problem,) = check(kept.root).problems
    assert problem.kind == "object"
    assert "not those that were written" in problem.problem
    assert set(problem.paths) == {"repo/folder/bad", "repo/again (uncommitted)"}
    assert set(problem.commits) == {f"repo@{first}", f"repo@{second}"}


@pytest.mark.parametrize("how", ["cut short", "gone"])
def test_a_torn_or_missing_object_is_told_from_its_length(kept, how):
    kept.put("a", b"content")
    kept.commit()
    if how == "gone":
        kept.blob("a").unlink()
    else:
        kept.blob("a").write_bytes(b"cont")
    (problem,) = check(kept.root).problems
    assert ("is missing" if how == "gone" else "has 4 bytes, 7 were written") in problem.problem


def test_a_lost_node_is_listed_with_the_commits_that_need_it(kept):
    for number in range(20):
        kept.put(f"k{number}")
    commit = kept.commit()
    kept.lake.close()
    meddle(kept.root, "DELETE FROM node WHERE length(body) = (SELECT max(length(body)) FROM node)")
    (problem,) = check(kept.root).problems
    assert (problem.kind, problem.commits) == ("node", (f"repo@{commit}",))


def test_a_commit_that_was_changed_is_found(kept):
    kept.put("a")
    commit = kept.commit()
    kept.lake.close()
    meddle(
        kept.root, f"UPDATE commits SET body = replace(body, '\"m\"', '\"n\"') WHERE id='{commit}'"
    )
    (problem,) = check(kept.root).problems
    assert (problem.kind, problem.name) == ("commit", commit)


@pytest.mark.parametrize("body", ["", "no json", "{}", "[1]"])
def test_a_commit_that_cannot_be_read_is_damage_with_a_name_and_no_crash(kept, body):
    kept.put("a", b"content")
    lost = kept.commit()
    kept.lake.close()
    meddle(kept.root, f"UPDATE commits SET body = '{body}' WHERE id = '{lost}'")
    (problem,) = check(kept.root).problems
    assert (problem.kind, problem.name) == ("commit", lost)
    with pytest.raises(Damaged, match=f"main of repo cannot be read: commit {lost}"):
        open_sound(kept.root)


@pytest.mark.parametrize("text", ["no json", "[1,2]", "7"])
def test_uncommitted_data_that_cannot_be_read_is_damage_and_no_crash(kept, text):
    kept.put("a", b"content")
    kept.lake.close()
    meddle(kept.root, f"UPDATE staged SET entry = '{text}'")
    (problem,) = check(kept.root).problems
    assert "uncommitted data cannot be read" in problem.problem
    with pytest.raises(Damaged, match="uncommitted data cannot be read"):
        open_sound(kept.root)


def test_a_lake_whose_uncommitted_bytes_are_gone_does_not_boot(kept):
    kept.put("a", b"content")
    kept.lake.close()
    kept.blob("a").unlink()
    with pytest.raises(Damaged, match=r"the object repo/a \(uncommitted\) is missing"):
        open_sound(kept.root)


def test_only_a_deep_check_reads_what_nothing_refers_to(kept):
    kept.branch("side")
    kept.put("a", b"only here", branch="side")
    kept.commit("side")
    blob = kept.blob("a", "side")
    kept.drop_branch("side")
    flip(blob)
    assert check(kept.root).is_sound
    assert [problem.kind for problem in check(kept.root, deep=True).problems] == ["object"]


def test_a_folder_without_a_lake_is_told_so(tmp_path):
    with pytest.raises(NotFound, match="there is no lake"):
        check(tmp_path)


def test_a_lake_whose_blobs_are_gone_does_not_boot_and_its_backup_is_named(kept, tmp_path):
    kept.put("a")
    kept.commit()
    made = back_up(kept.root, tmp_path / "saved")
    kept.blob("a").unlink()
    kept.lake.close()
    with pytest.raises(Damaged, match="repo/a is missing") as answer_error:
        open_sound(kept.root)
    assert f"restore {tmp_path / 'saved'}" in answer_error.value.remedy
    assert made.made_at in answer_error.value.remedy


def test_a_ref_to_a_lost_commit_does_not_boot_and_without_a_backup_says_so(kept):
    kept.put("a")
    commit = kept.commit()
    kept.lake.close()
    meddle(kept.root, f"DELETE FROM commits WHERE id = '{commit}'")
    with pytest.raises(Damaged, match="main of repo cannot be read") as answer_error:
        open_sound(kept.root)
    assert "no backup" in answer_error.value.remedy


def test_a_torn_database_page_does_not_boot(kept):
    for number in range(500):
        kept.put(f"k{number}", f"{number}".encode())
    kept.commit()
    kept.lake.close()
    path = kept.root / "graph.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(Damaged, match="not a sound lake"):
        open_sound(kept.root)


def test_after_a_failed_sync_every_byte_is_read_before_the_lake_serves(kept):
    for number in range(200):
        kept.put(f"k{number:03}", f"{number}".encode())
    kept.commit()
    flipped = kept.blob("k100")
    flip(flipped)
    kept.lake.close()
    open_sound(kept.root).close()  # the sample does not reach it
    (kept.root / "suspect").write_text("Input/output error\n")
    with pytest.raises(Damaged, match="not what was written"):
        open_sound(kept.root)
    flip(flipped)
    open_sound(kept.root).close()
    assert not (kept.root / "suspect").exists()


@pytest.mark.parametrize("version", ["3.51.2", "3.46.0", "2.8.17"])
def test_an_sqlite_that_can_corrupt_its_log_is_refused(version):
    with pytest.raises(Unavailable, match="can corrupt the lake"):
        check_sqlite(version)


def test_this_sqlite_and_later_ones_are_taken():
    check_sqlite()
    check_sqlite("3.51.3")
    check_sqlite("4.0.0")


def test_a_list_of_backups_that_cannot_be_read_does_not_hide_the_damage(kept):
    kept.put("a")
    kept.commit()
    kept.blob("a").unlink()
    kept.lake.close()
    (kept.root / "backups.json").write_text(json.dumps({"not": "a list"})[:-3])
    with pytest.raises(Damaged, match="repo/a is missing"):
        open_sound(kept.root)
