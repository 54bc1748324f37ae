import pytest

from flows.audit.checkpoint import refresh_checkpoint
from flows.audit.examine import LogExamination, examine
from flows.audit.reading import floor_path, read_floor
from security.errors import Untrusted
from storage.registry import layout
from tests.unit.flows.audit.conftest import REPOSITORY, Logged

INDEX = "environments/production/index"


@pytest.fixture
def running(logged: Logged) -> Logged:
    """Production runs a release, a policy is published, and a checkpoint covers the log."""
    site = logged.site
    site.promote(site.register(site.lake.pin("flights")))
    site.timestamp()
    refresh_checkpoint(site.context())
    return logged


def look(logged: Logged) -> LogExamination:
    site = logged.site
    return examine(site.lake, logged.pin, site.policy, site.context().trusted.floors)


def test_a_log_that_agrees_has_no_problem_and_raises_the_floor(running: Logged) -> None:
    floor = floor_path(running.site.context().trusted.floors, REPOSITORY)
    floor.unlink()
    found = look(running)
    # The release, the index, its timestamp and the two documents of the policy.
    assert (found.problems, found.compared) == ((), 5)
    assert (found.size, found.root) == (len(running.log().lines), running.log().root())
    assert found.checkpoint is not None
    assert (found.checkpoint.size, found.known) == (found.size, 0)
    assert read_floor(floor).size == found.size


def test_what_stands_there_untold_or_otherwise_is_found(running: Logged) -> None:
    fs = running.site.lake.fs
    index = fs.get(REPOSITORY, "main", f"{INDEX}/1.json")
    rules = fs.get(REPOSITORY, "main", "policy/rules.dsse.json")
    known = read_floor(floor_path(running.site.context().trusted.floors, REPOSITORY))
    running.site.overwrite({f"{INDEX}/2.json": index, "policy/trust.dsse.json": rules})
    running.tell("something")
    assert look(running).problems == (
        f"{INDEX}/2 stands in the repository, and the log does not tell of it",
        f"policy/trust.dsse.json is not what entry {number(running, 'policy/trust.dsse.json')} "
        "tells of",
    )
    assert read_floor(floor_path(running.site.context().trusted.floors, REPOSITORY)) == known


def number(logged: Logged, subject: str) -> int:
    return next(one.number for one in logged.log().entries if one.subject == subject)


def test_what_the_log_tells_of_and_nobody_finds(running: Logged) -> None:
    running.site.overwrite({f"{INDEX}/1.json": None, f"{INDEX}/1.timestamp.json": None})
    told = number(running, f"{INDEX}/1")
    assert look(running).problems == (f"entry {told} tells of {INDEX}/1, which is not there",)


def test_a_release_told_of_twice_is_found(running: Logged) -> None:
    lines = list(running.log().lines)
    told = number(running, "models/flights/1")
    again = lines[told].replace(b'"number":%d' % told, b'"number":%d' % len(lines))
    running.put([*lines, again])
    assert look(running).problems == (
        f"entries {told} and {len(lines)} both tell of models/flights/1",
    )


def test_a_log_that_lost_what_a_checkpoint_covers_is_refused(running: Logged) -> None:
    floor_path(running.site.context().trusted.floors, REPOSITORY).unlink()
    running.put(list(running.log().lines[:-1]))
    with pytest.raises(Untrusted, match="truncated"):
        look(running)


def test_a_log_that_lost_what_was_known_here_is_refused(running: Logged) -> None:
    running.check_grown()
    running.put(list(running.log().lines[:-1]))
    running.site.overwrite({layout.AUDIT_CHECKPOINT: None})
    with pytest.raises(Untrusted, match="truncated"):
        look(running)
