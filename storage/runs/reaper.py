"""Delete the branches of runs that died; what a person named is never touched."""

import re
from datetime import UTC, datetime, timedelta

from storage.lake import Lake

STAGE_DEADLINE = timedelta(hours=6)
"""No stage's run takes longer; an older branch that never merged is dead."""

# run-<stage>-<run id, 12 hex>-<attempt: start in Unix seconds, 8 hex, then 8 random>
_RUN_BRANCH = re.compile(r"run-[a-z]+-[0-9a-f]{12}-(?P<started>[0-9a-f]{8})[0-9a-f]{8}")


def reap(lake: Lake, repository: str, *, older_than: timedelta) -> list[str]:
    """Delete run branches whose attempt began longer ago than any stage may take.

    Returns the names deleted.
    """
    dead = reapable(lake, repository, older_than=older_than)
    for branch in dead:
        lake.fs.delete_branch(repository, branch)
    return dead


def reapable(lake: Lake, repository: str, *, older_than: timedelta) -> list[str]:
    """The run branches that `reap` would delete.

    The age is that of the attempt, from the branch's name: its head commit may be old because
    `main` has not moved.
    """
    limit = datetime.now(UTC) - older_than
    branches = lake.fs.branches(repository, prefix="run-", hidden=True)
    return [branch for branch in branches if _began_before(branch, limit)]


def _began_before(branch: str, limit: datetime) -> bool:
    named = _RUN_BRANCH.fullmatch(branch)
    return named is not None and datetime.fromtimestamp(int(named["started"], 16), UTC) < limit
