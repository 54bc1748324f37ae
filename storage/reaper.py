"""Delete the branches of runs that died; what a person named is never touched."""

import re
from datetime import UTC, datetime, timedelta

from storage.lake import Lake

# run-<stage>-<run id, 12 hex>-<attempt: start in Unix seconds, 8 hex, then 8 random>
_RUN_BRANCH = re.compile(r"run-[a-z]+-[0-9a-f]{12}-(?P<started>[0-9a-f]{8})[0-9a-f]{8}")


def reap(lake: Lake, repository: str, *, older_than: timedelta) -> list[str]:
    """Delete run branches whose attempt began longer ago than any stage may take.

    The age is that of the attempt, from the branch's name: its head commit may be old because
    `main` has not moved. Returns the names deleted.
    """
    limit = datetime.now(UTC) - older_than
    reaped = []
    for branch in lake.fs.branches(repository, prefix="run-", hidden=True):
        named = _RUN_BRANCH.fullmatch(branch)
        if named and datetime.fromtimestamp(int(named["started"], 16), UTC) < limit:
            lake.fs.delete_branch(repository, branch)
            reaped.append(branch)
    return reaped
