"""Garbage collection: what goes, what stays, and writers who meet it half-way."""

import os
import threading
import time

import pytest

from storage.embedded.bytes import blobs
from storage.embedded.bytes.folder_locks import keep_bytes
from storage.embedded.graph import heads, objects
from storage.embedded.upkeep.check import check
from storage.embedded.upkeep.garbage_collection import collect
from storage.errors import Damaged, NotFound, Unavailable


@pytest.fixture(autouse=True)
def nothing_is_arriving(monkeypatch):
    """Tests act within a second; what was kept a moment ago must not count as arriving."""
    monkeypatch.setattr(blobs, "ARRIVING_S", 0)


def act_before(monkeypatch, owner, method, act, *, call=1):
    """Run `act` once, before the given call of a method; what `act` itself calls is not counted."""
    real, seen = getattr(owner, method), []

    def acting(*arguments, **named):
        seen.append(arguments)
        if len(seen) == call:
            act()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, method, acting)


def garbage(kept):
    kept.branch("side")
    kept.put("a", b"only on side", branch="side")
    commit = kept.commit("side")
    blob = kept.blob("a", "side")
    kept.drop_branch("side")
    return commit, blob


def test_what_only_a_deleted_branch_had_goes(kept):
    kept.put("kept", b"kept")
    kept.commit()
    commit, blob = garbage(kept)
    kept.put("staged", b"staged")
    done = collect(kept.lake, grace_s=0)
    assert (done.commits, done.objects, done.octets) == (1, 1, len(b"only on side"))
    assert done.nodes >= 2
    assert not blob.exists()
    with pytest.raises(NotFound):
        kept.keys(commit)
    assert kept.content("kept") == b"kept"
    assert kept.content("staged") == b"staged"
    assert check(kept.root, deep=True).is_sound
    again = collect(kept.lake, grace_s=0)
    assert (again.commits, again.nodes, again.objects) == (0, 0, 0)


def test_bytes_that_arrive_again_while_the_graph_is_walked_stay_however_late_they_are_staged(
    kept, monkeypatch
):
    _, blob = garbage(kept)
    os.utime(blob, (1, 1))
    arrived = []
    act_before(monkeypatch, kept.lake, "read", lambda: arrived.append(kept.made(b"only on side")))
    collect(kept.lake, grace_s=3600)
    kept.lake.write(lambda view: objects.put_object(view, "repo", "main", "late", arrived[0]))
    assert kept.content("late") == b"only on side"


def test_a_dry_run_says_the_same_and_removes_nothing(kept):
    commit, blob = garbage(kept)
    said = collect(kept.lake, grace_s=0, dry_run=True)
    assert blob.exists()
    assert kept.keys(commit) == ["a"]
    done = collect(kept.lake, grace_s=0)
    assert (said.commits, said.nodes, said.objects, said.octets) == (
        done.commits,
        done.nodes,
        done.objects,
        done.octets,
    )


@pytest.mark.parametrize("grace_s", [1e300, float("inf")])
def test_a_grace_beyond_all_time_keeps_everything(kept, grace_s):
    garbage(kept)
    done = collect(kept.lake, grace_s=grace_s)
    assert (done.commits, done.nodes, done.objects) == (0, 0, 0)


def test_the_young_stays_until_the_grace_is_over(kept):
    commit, blob = garbage(kept)
    done = collect(kept.lake, grace_s=3600)
    assert (done.commits, done.nodes, done.objects) == (0, 0, 0)
    assert kept.content("a", commit) == b"only on side"
    long_ago = time.time() - 7200
    os.utime(blob, (long_ago, long_ago))
    collect(kept.lake, grace_s=3600)
    assert blob.exists(), "an old blob of a young commit"


def test_whatever_a_tag_an_old_commit_or_an_overwritten_version_has_stays(kept):
    kept.put("a", b"first")
    first = kept.commit()
    kept.put("a", b"second")
    kept.commit()
    kept.delete("a")
    kept.commit()
    kept.branch("side", first)
    collect(kept.lake, grace_s=0)
    assert kept.content("a", first) == b"first"
    assert kept.content("a", "main~1") == b"second"


def test_uploads_that_nobody_staged_and_overwritten_uncommitted_data_go(kept):
    kept.put("a", b"overwritten")
    before = kept.blob("a")
    kept.put("a", b"final")
    orphan = kept.lake.blobs.path(kept.made(b"never staged").digest)
    collect(kept.lake, grace_s=0)
    assert not before.exists()
    assert not orphan.exists()
    assert kept.content("a") == b"final"


def between(monkeypatch, kept, act):
    """Run `act` after the bytes were condemned and before the judgement."""
    act_before(monkeypatch, kept.lake.publishing, "hold_alone", act)


def test_an_upload_that_meets_condemned_bytes_keeps_them(kept, monkeypatch):
    garbage(kept)
    between(monkeypatch, kept, lambda: kept.put("b", b"only on side"))
    collect(kept.lake, grace_s=0)
    assert kept.content("b") == b"only on side"


def test_a_copy_from_a_condemned_commit_keeps_its_bytes(kept, monkeypatch):
    commit, _ = garbage(kept)

    def copy():
        def job(view):
            found = objects.find_object(view, "repo", commit, "a")
            objects.put_object(view, "repo", "main", "b", found)

        kept.lake.write(job)

    between(monkeypatch, kept, copy)
    collect(kept.lake, grace_s=0)
    assert kept.content("b") == b"only on side"


def test_a_branch_made_on_a_condemned_commit_keeps_it(kept, monkeypatch):
    commit, _ = garbage(kept)
    between(monkeypatch, kept, lambda: kept.branch("rescued", commit))
    collect(kept.lake, grace_s=0)
    assert kept.content("a", "rescued") == b"only on side"
    assert check(kept.root, deep=True).is_sound


def test_a_commit_that_makes_a_condemned_node_again_keeps_it(kept, monkeypatch):
    garbage(kept)

    def commit_again():
        kept.put("a", b"only on side")
        kept.commit()

    # The first write judges, those after it sweep.
    act_before(monkeypatch, kept.lake, "write", commit_again, call=2)
    done = collect(kept.lake, grace_s=0)
    assert done.nodes == 0, "the same key and identity make the same range and the same index"
    assert kept.content("a") == b"only on side"
    assert check(kept.root, deep=True).is_sound


def test_a_merge_of_a_commit_that_is_about_to_go_is_whole_or_refused(kept):
    commit, _ = garbage(kept)
    kept.put("b")
    kept.commit()
    inside, go_on = threading.Event(), threading.Event()
    read = kept.lake.read

    def slow_read(work):
        result = read(work)
        if isinstance(result, heads.Planned):
            inside.set()
            go_on.wait(10)
        return result

    kept.lake.read = slow_read
    said = heads.Message("me", "m")
    merging = threading.Thread(target=lambda: heads.merge(kept.lake, "repo", commit, "main", said))
    merging.start()
    inside.wait(10)
    kept.lake.read = read
    collecting = threading.Thread(target=lambda: collect(kept.lake, grace_s=0))
    collecting.start()
    time.sleep(0.2)
    assert collecting.is_alive(), "it waits for the merge"
    go_on.set()
    merging.join(10)
    collecting.join(10)
    assert kept.content("a") == b"only on side"
    assert check(kept.root, deep=True).is_sound


def test_a_damaged_graph_is_not_collected(kept):
    kept.put("a", b"here")
    kept.commit()
    _, blob = garbage(kept)
    kept.lake.write(lambda view: view.rows.execute("UPDATE node SET body = zeroblob(10)"))
    with pytest.raises(Damaged):
        collect(kept.lake, grace_s=0)
    assert blob.exists()


def test_nothing_is_collected_while_a_backup_reads(kept):
    with keep_bytes(kept.root), pytest.raises(Unavailable, match="backup"):
        collect(kept.lake, grace_s=0)


def test_many_writers_of_the_same_bytes_lose_none_to_collections_in_a_row(kept, monkeypatch):
    monkeypatch.undo()  # arrivals count here
    stop, failures = threading.Event(), []
    contents = [f"shared {number}".encode() * 50 for number in range(4)]

    def write(worker):
        turn = 0
        while not stop.is_set():
            key, content = f"{worker}-{turn % 3}", contents[turn % 4]
            kept.put(key, content)
            try:
                if kept.content(key) != content:
                    failures.append(key)
            except Damaged as error:
                failures.append(str(error))
            kept.delete(key)
            turn += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(15):
        collect(kept.lake, grace_s=0)
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    assert check(kept.root, deep=True).is_sound
