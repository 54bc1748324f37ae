"""Branches and tags that people make, and the branches that are none of theirs."""

from dataclasses import dataclass
from datetime import UTC, datetime

from storage.errors import Conflict, NotFound, Refused
from storage.lake import LANDING, MAIN, Lake, Pin

_RUN = "run-"


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch and its head commit, or a tag and the commit it names."""

    name: str
    commit: str
    at: datetime
    message: str


def user_branches(lake: Lake, repository: str) -> list[Branch]:
    """Every branch but those of runs; `main` first."""
    names = [n for n in lake.fs.branches(repository) if not n.startswith(_RUN)]
    return [_branch(lake, repository, name) for name in sorted(names, key=lambda n: (n != MAIN, n))]


def create(lake: Lake, repository: str, name: str, *, source: str) -> Branch:
    """Make a branch at the commit that `source` names; no data is copied.

    Raises: Refused for a run's name, Conflict if the branch exists.
    """
    _require_own(name)
    try:
        lake.fs.create_branch(repository, name, source=source)
    except Conflict as error:
        raise Conflict(
            f"{repository} has a branch {name} already.",
            remedy=f"Choose another name, or `headrace data branch {name} --delete` first.",
        ) from error
    return _branch(lake, repository, name)


def delete(lake: Lake, repository: str, name: str) -> None:
    """Drop a branch, with what is uncommitted on it.

    Raises: Refused for main, landing and the branches of runs, NotFound.
    """
    _require_own(name)
    if not lake.fs.delete_branch(repository, name):
        raise NotFound(
            f"{repository} has no branch {name}.", remedy="`headrace data branch` prints them."
        )


def require_mergeable(source: str, into: str) -> None:
    """Raises Refused unless both may take part in a person's merge."""
    _require_own(source)
    if into in (LANDING, source) or into.startswith(_RUN):
        raise Refused(
            f"{source} cannot be merged into {into}.",
            remedy="Merge into main or into another branch of your own.",
        )


def _require_own(name: str) -> None:
    if name in (MAIN, LANDING) or name.startswith(_RUN):
        raise Refused(
            f"{name} is not a branch of yours: main, landing and run-* belong to the stages.",
            remedy="Choose another name.",
        )


def _branch(lake: Lake, repository: str, name: str) -> Branch:
    head = lake.fs.resolve(repository, name)
    return Branch(name, head.id, datetime.fromtimestamp(head.created_at, UTC), head.message)


def tags(lake: Lake, repository: str) -> list[Branch]:
    """Every tag, by name."""
    return [_branch(lake, repository, name) for name in sorted(lake.fs.tags(repository))]


def delete_tag(lake: Lake, repository: str, name: str) -> str:
    """Drop a tag; returns the commit it named, which stays. Raises NotFound."""
    named = lake.fs.tags(repository).get(name)
    if named is None or not lake.fs.delete_tag(repository, name):
        raise NotFound(
            f"{repository} has no tag {name}.", remedy="`headrace data tag` prints them."
        )
    return named


def tag(lake: Lake, pin: Pin, name: str) -> None:
    """Name a commit for good. Raises Conflict if the tag names another one."""
    try:
        lake.fs.tag(pin.repository, name, ref=pin.commit)
    except Conflict as error:
        named = lake.pin(pin.repository, name)
        if named != pin:
            raise Conflict(
                f"Tag {name} names commit {named.commit[:12]} already.",
                remedy="Choose another name: a tag never moves.",
            ) from error
