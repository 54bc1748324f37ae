"""Run branches of the dead are deleted, those of the living and of people are not."""

import time
from datetime import timedelta

from storage.lake import Lake
from storage.runs import Job, Run, commit_once
from storage.runs.reaper import reap


def test_only_run_branches_past_the_deadline_are_reaped(lake: Lake, repo: str) -> None:
    old = f"run-ingest-{'a' * 12}-{int(time.time()) - 7200:08x}{'0' * 8}"
    for branch in (old, "run-my-own-idea", "experiment"):
        lake.fs.create_branch(repo, branch, source="main", hidden=True)
    survivors: list[set[str]] = []

    def body(run: Run) -> None:
        assert reap(lake, repo, older_than=timedelta(hours=1)) == [old]
        survivors.append(set(lake.fs.branches(repo, hidden=True)) - {run.branch})
        assert run.branch in lake.fs.branches(repo, hidden=True)

    commit_once(lake, Job(repo, "ingest", "b" * 64), body)
    assert survivors == [{"main", "landing", "run-my-own-idea", "experiment"}]
