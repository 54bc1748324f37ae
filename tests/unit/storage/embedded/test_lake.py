"""The lake in one process: what races, what breaks, what survives."""

import errno
import os
import threading
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import apsw
import pytest

from storage.embedded.errors import DiskFull, WritesStopped
from storage.embedded.graph import branches, heads, objects, repositories
from storage.embedded.graph.heads import Message
from storage.embedded.graph.paging import KeyWindow
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.lake import EmbeddedLake
from storage.errors import Damaged, NotFound, Refused, Unavailable

SAID = Message("me", "m")


@pytest.fixture
def lake(tmp_path):
    opened = EmbeddedLake(tmp_path / "lake")
    opened.write(
        lambda view: repositories.create_repository(
            view.rows, "repo", "local://repo", "main", read_only=False
        )
    )
    yield opened
    opened.close()


def made(content: bytes, lake: EmbeddedLake) -> ObjectEntry:
    incoming = lake.blobs.receive()
    incoming.write(content)
    written = lake.blobs.keep(incoming)
    return make_entry(
        digest=written.digest,
        etag=written.md5,
        size=written.size,
        content_type="t",
        modified_s=0,
        metadata={},
    )


def put(lake: EmbeddedLake, key: str, content: bytes = b"x") -> None:
    value = made(content, lake)
    lake.write(lambda view: objects.put_object(view, "repo", "main", key, value))


def delete(lake: EmbeddedLake, key: str) -> None:
    lake.write(lambda view: objects.delete_objects(view, "repo", "main", [key]))


def shown(lake: EmbeddedLake, ref: str = "main") -> list[str]:
    found = lake.read(lambda view: objects.list_objects(view, "repo", ref, KeyWindow()))
    return [item[0] for item in found.results]


def during_publish(lake: EmbeddedLake, monkeypatch, act) -> None:
    """Run `act` once, between a plan's snapshot and its publishing."""
    read, acted = lake.read, []

    def read_then_act(work):
        result = read(work)
        if isinstance(result, heads.Planned) and not acted:
            acted.append(True)
            act()
        return result

    monkeypatch.setattr(lake, "read", read_then_act)


def test_a_write_during_a_commit_stays_staged(lake, monkeypatch):
    put(lake, "before", b"1")
    during_publish(lake, monkeypatch, lambda: put(lake, "during", b"2"))
    heads.commit(lake, "repo", "main", SAID)
    assert (shown(lake, "main@"), shown(lake)) == (["before"], ["before", "during"])


def test_a_delete_during_a_commit_is_not_lost(lake, monkeypatch):
    put(lake, "key")
    during_publish(lake, monkeypatch, lambda: delete(lake, "key"))
    heads.commit(lake, "repo", "main", SAID)
    assert (shown(lake, "main@"), shown(lake)) == (["key"], [])


def test_an_overwrite_during_a_commit_is_not_lost(lake, monkeypatch):
    put(lake, "key", b"old")
    during_publish(lake, monkeypatch, lambda: put(lake, "key", b"new"))
    heads.commit(lake, "repo", "main", SAID)

    def size(ref):
        return lake.read(lambda view: objects.find_object(view, "repo", ref, "key")).etag

    assert size("main@") == made(b"old", lake).etag
    assert size("main") == made(b"new", lake).etag


def with_work_to_merge(lake: EmbeddedLake) -> None:
    lake.write(
        lambda view: branches.create_branch(view, "repo", "work", "main", hidden=False, force=False)
    )
    value = made(b"work", lake)
    lake.write(lambda view: objects.put_object(view, "repo", "work", "work", value))
    heads.commit(lake, "repo", "work", SAID)


def test_a_write_during_a_merge_makes_the_destination_dirty(lake, monkeypatch):
    with_work_to_merge(lake)
    during_publish(lake, monkeypatch, lambda: put(lake, "stray"))
    with pytest.raises(Refused, match="dirty branch"):
        heads.merge(lake, "repo", "work", "main", SAID)
    assert (shown(lake, "main@"), shown(lake)) == ([], ["stray"])


def test_a_head_that_moves_during_a_merge_is_merged_again(lake, monkeypatch):
    with_work_to_merge(lake)

    def other_commit():
        put(lake, "other")
        with monkeypatch.context() as patch:
            patch.setattr(lake, "turn", lambda *_: nullcontext())
            heads.commit(lake, "repo", "main", SAID)

    during_publish(lake, monkeypatch, other_commit)
    heads.merge(lake, "repo", "work", "main", SAID)
    assert shown(lake, "main@") == ["other", "work"]


def test_a_branch_that_is_deleted_during_a_commit_fails_it(lake, monkeypatch):
    with_work_to_merge(lake)
    value = made(b"more", lake)
    lake.write(lambda view: objects.put_object(view, "repo", "work", "more", value))

    def drop():
        lake.write(lambda view: branches.delete_branch(view, "repo", "work", force=False))

    during_publish(lake, monkeypatch, drop)
    with pytest.raises(NotFound):
        heads.commit(lake, "repo", "work", SAID)


def test_a_failing_write_undoes_only_itself(lake):
    def broken(view):
        view.rows.execute("DELETE FROM branch")
        raise Refused("no")

    futures = [
        lake.submit(lambda view: view.rows.execute("INSERT INTO tag VALUES ('repo', 'a', 'c')")),
        lake.submit(broken),
        lake.submit(lambda view: view.rows.execute("INSERT INTO tag VALUES ('repo', 'b', 'c')")),
    ]
    futures[0].result()
    futures[2].result()
    with pytest.raises(Refused):
        futures[1].result()
    found = lake.read(lambda view: view.rows.execute("SELECT name FROM tag").fetchall())
    assert [name for (name,) in found] == ["a", "b"]
    assert shown(lake) == []


@contextmanager
def busy_writer(lake):
    """Keep the writer in a job, so that what is submitted meanwhile waits behind it."""
    done = threading.Event()
    first = lake.submit(lambda _: done.wait(60))
    try:
        yield
    finally:
        done.set()
        first.exception(60)


def test_a_request_that_is_given_up_does_not_take_the_writer_along(lake):
    with busy_writer(lake):
        waiting = lake.submit(lambda view: view.rows.changes())
        assert not waiting.cancel()
    assert lake.submit(lambda _: "alive").result(60) == "alive"


def test_writes_that_wait_while_a_sync_fails_are_not_acknowledged(lake):
    with busy_writer(lake):
        waiting = lake.submit(lambda view: view.rows.changes())
        lake.health.stop(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(WritesStopped):
        waiting.result(60)


def test_two_processes_cannot_hold_one_folder(lake):
    with pytest.raises(Unavailable, match="another process"):
        EmbeddedLake(lake.root)


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_bytes_that_are_not_what_was_written_are_never_served(lake, harm):
    value = made(b"0123456789" * 500_000, lake)
    path = lake.blobs.path(value.digest)
    if harm == "flip":
        with path.open("r+b") as file:
            file.seek(3_000_000)
            file.write(b"!")
    elif harm == "truncate":
        os.truncate(path, 100)
    else:
        path.unlink()
    with pytest.raises(Damaged):
        list(lake.blobs.read(value.digest, value.size, 0, value.size))


def failing(kind: int):
    def fail(*_):
        raise OSError(kind, os.strerror(kind))

    return fail


def test_a_failed_sync_stops_writes_until_a_restart_and_reads_go_on(lake, monkeypatch):
    put(lake, "key")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(WritesStopped):
            put(lake, "lost")
    with pytest.raises(WritesStopped, match="read-only"):
        put(lake, "later")
    with pytest.raises(WritesStopped):
        lake.write(lambda view: None)
    assert shown(lake) == ["key"]


def test_a_full_disk_is_said_and_passes(lake, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(DiskFull):
            put(lake, "lost")
    put(lake, "key")
    assert shown(lake) == ["key"]
    assert (
        list((lake.root / "incoming").iterdir()) == []
        or len(list((lake.root / "incoming").iterdir())) == 1
    )


def test_a_lake_opens_again_as_it_was_left(tmp_path):
    root = tmp_path / "lake"
    first = EmbeddedLake(root)
    first.write(
        lambda view: repositories.create_repository(
            view.rows, "repo", "local://repo", "main", read_only=False
        )
    )
    put(first, "key")
    (root / "incoming" / "torn").write_bytes(b"half")
    first.close()
    second = EmbeddedLake(root)
    assert shown(second) == ["key"]
    assert list((root / "incoming").iterdir()) == []
    second.close()


def test_a_lake_that_is_up_to_date_opens_without_a_write_so_also_on_a_full_disk(tmp_path):
    EmbeddedLake(tmp_path / "lake").close()
    opened = EmbeddedLake(tmp_path / "lake")
    log = tmp_path / "lake" / "graph.sqlite-wal"
    written = log.stat().st_size if log.exists() else 0
    opened.close()
    assert written == 0


def test_a_table_that_came_later_is_added_to_an_earlier_graph(tmp_path):
    EmbeddedLake(tmp_path / "lake").close()
    with closing(apsw.Connection(str(tmp_path / "lake" / "graph.sqlite"))) as rows:
        rows.execute("DROP TABLE repository_metadata")
    lake = EmbeddedLake(tmp_path / "lake")
    found = lake.read(
        lambda view: view.rows.execute("SELECT * FROM repository_metadata").fetchall()
    )
    lake.close()
    assert found == []


def test_a_graph_that_is_no_database_is_refused_by_name(tmp_path: Path):
    (tmp_path / "graph.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged, match=r"graph\.sqlite"):
        EmbeddedLake(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "covered", "free"),
    [
        ("main", ["main"], ["main2", "xmain"]),
        ("release-*", ["release-", "release-1"], ["release"]),
        ("v?", ["v1"], ["v", "v12"]),
        ("[a-c]x", ["ax"], ["dx"]),
        ("[!a-c]x", ["dx"], ["ax"]),
        ("{one,two}", ["one", "two"], ["three"]),
    ],
)
def test_protection_patterns_cover_what_lakefs_covers(lake, pattern, covered, free):
    lake.write(lambda view: repositories.set_protection(view.rows, "repo", [pattern], None))
    found = lake.read(lambda view: repositories.get_repository(view.rows, "repo"))
    assert all(repositories.is_protected(found, name) for name in covered)
    assert not any(repositories.is_protected(found, name) for name in free)


def test_a_pattern_that_is_none_is_refused(lake):
    with pytest.raises(Refused, match="is not a pattern"):
        lake.write(lambda view: repositories.set_protection(view.rows, "repo", ["{a"], None))
