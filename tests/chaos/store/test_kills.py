"""Kill -9 at the N-th system call of every kind that changes a file, under writes of each kind."""

import pytest

# A handful of moments for every run; `long` takes all there are.
SOME = [("rename", 1), ("fsync", 2), ("fdatasync", 3), ("pwrite64", 4), ("write", 1)]
KINDS = ["rename", "fsync", "fdatasync", "pwrite64", "write", "openat", "sendto"]
MOST = 200


def killed_at(store, call: str, number: int) -> int | None:
    """Kill at this call of whichever thread gets there first; steps acknowledged, or None."""
    store.start()
    tracer = store.attach("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
    acknowledged = store.run_steps()
    was_killed = store.process.poll() is not None or acknowledged < 8
    if was_killed:
        store.killed()
    else:
        store.stop()
    tracer.wait(30)
    return acknowledged if was_killed else None


@pytest.mark.parametrize(("call", "number"), SOME)
def test_a_kill_leaves_what_was_acknowledged_and_nothing_by_half(
    store, assert_acknowledged, call, number
):
    acknowledged = killed_at(store, call, number)
    assert acknowledged is not None, "the server did not come to this call"
    stands_at = assert_acknowledged(store.root, acknowledged)
    store.start()
    assert store.run_steps(stands_at) == 8
    store.stop()
    assert_acknowledged(store.root, 8)


@pytest.mark.long
@pytest.mark.parametrize("call", KINDS)
def test_a_kill_at_every_call_of_a_kind_leaves_what_was_acknowledged(
    store, assert_acknowledged, call
):
    lake = store.root
    for number in range(1, MOST):
        store.root = lake.with_name(f"lake-{number}")
        acknowledged = killed_at(store, call, number)
        if acknowledged is None:
            break
        stands_at = assert_acknowledged(store.root, acknowledged)
        store.start()
        assert store.run_steps(stands_at) == 8
        store.stop()
        assert_acknowledged(store.root, 8)
    assert number > 1, "no call of this kind was ever made"
