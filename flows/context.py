"""What one run or one command works with: settings, lake, pipeline, trust, and who acts for what.

Opening reads the settings and imports the pipeline's module. It creates nothing and asks the lake
nothing; the policy is verified when it is first needed, and then once.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Self

import polars as pl

from flows.pipeline import Pipeline, load_pipeline
from flows.settings import Settings
from flows.trust.installation import Trusted
from storage import tables
from storage.errors import NotFound, Refused
from storage.lake import MAIN, Lake, Pin
from storage.lake.client import Access
from storage.runs import Job, Outcome, Provenance, Run, commit_once
from storage.versions import moments

_LOCK = "requirements.lock"


class PolicyOnce:
    """The policy of a keys folder, verified when it is first asked for and then kept."""

    def __init__(self) -> None:
        self._found: Trusted | None = None

    def load(self, keys: Path) -> Trusted:
        """Raises: Misconfigured before `headrace keys init`, Untrusted for a forged policy."""
        if self._found is None:
            self._found = Trusted.load(keys)
        return self._found


@dataclass(frozen=True)
class Context:
    """One pipeline in its lake, and who acts on it.

    `actor` is who the audit log and the indexes name; `origin` is the code and the flow run or
    command that a run's record names.
    """

    settings: Settings
    lake: Lake
    pipeline: Pipeline
    actor: str = ""
    origin: Provenance = field(default_factory=Provenance)
    policy: PolicyOnce = field(default_factory=PolicyOnce, repr=False, compare=False)

    @property
    def repository(self) -> str:
        """The repository of the pipeline's data."""
        return self.pipeline.repository

    @property
    def keys(self) -> Path:
        """The folder of this installation's keys and of its pinned root."""
        return self.settings.keys

    @property
    def trusted(self) -> Trusted:
        """The policy under the pinned root, verified once. Raises: Misconfigured, Untrusted."""
        return self.policy.load(self.keys)

    def acting(self, actor: str, *, command: str = "") -> Self:
        """The same, for another actor, started by a command if one is named."""
        orchestrator = {"command": command, "actor": actor} if command else None
        origin = Provenance(
            code=read_code(self.settings.root) if command else self.origin.code,
            orchestrator=orchestrator or self.origin.orchestrator,
        )
        return replace(self, actor=actor, origin=origin)

    def read_policy_again(self) -> Self:
        """The same, whose policy is verified anew: a ceremony has just changed it."""
        return replace(self, policy=PolicyOnce())

    def create_repositories(self) -> None:
        """Create the pipeline's two repositories, or what is missing of them."""
        self.lake.create_pipeline(self.pipeline.name)

    def pin(self, ref: str = MAIN) -> Pin:
        """The commit of the data that a ref, a moment or a table's version names.

        Raises: NotFound, saying what there is.
        """
        return _find_pin(self.lake, self.repository, ref)

    def pin_releases(self) -> Pin:
        """The releases repository as it is now. Raises: NotFound."""
        return _find_pin(self.lake, self.pipeline.releases, MAIN)

    def frames(self, pin: Pin) -> dict[str, pl.LazyFrame]:
        """The pipeline's datasets at the pin, lazily. Raises: NotFound for one without a batch."""
        return {d.name: tables.scan(self.lake, pin, d.name) for d in self.pipeline.datasets}

    def scan(self, pin: Pin, table: str) -> pl.LazyFrame | None:
        """The table at the pin, or None if nothing was written to it yet."""
        try:
            return tables.scan(self.lake, pin, table)
        except NotFound:
            return None

    def commit_data(
        self,
        stage: str,
        run_id: str,
        body: Callable[[Run], None],
        *,
        inputs: Mapping[str, Pin],
        on: str = MAIN,
    ) -> Outcome:
        """Commit a run once to the pipeline's data, with its record. Raises as `commit_once`."""
        return commit_once(
            self.lake,
            Job(self.repository, stage, run_id, inputs=inputs, on=on, by=self.origin),
            body,
        )

    def commit_release(self, stage: str, run_id: str, body: Callable[[Run], None]) -> Outcome:
        """Commit a run once to the releases repository. Raises as `commit_once`."""
        return commit_once(
            self.lake, Job(self.pipeline.releases, stage, run_id, by=self.origin), body
        )


def open_context(reference: str | None = None) -> Context:
    """The pipeline that is named, or the settings' own, in its lake: for a person's command.

    Raises: Misconfigured for settings that cannot be used or a pipeline that cannot be loaded.
    """
    settings, pipeline = load_definition(reference)
    return Context(settings, open_lake(settings), pipeline)


def open_run(reference: str | None = None) -> Context:
    """The same for the flow run that this process executes, once a run.

    A task calls it too, instead of taking it as a parameter: it holds the lake's secret.
    Raises: as `open_context`.
    """
    from prefect.runtime import flow_run

    if run := flow_run.get_id():
        return _open_run(reference, run)
    return _open_with_code(reference, {})


def load_definition(reference: str | None = None) -> tuple[Settings, Pipeline]:
    """The settings, and the pipeline that is named, or their own.

    Raises: Misconfigured for settings that cannot be used or a pipeline that cannot be loaded.
    """
    settings = Settings.load()
    if (root := str(settings.root)) not in sys.path:
        # A console script cannot import from the project's folder by itself.
        sys.path.append(root)
    return settings, load_pipeline(reference or settings.pipeline)


def open_lake(settings: Settings) -> Lake:
    """The lake that the settings name. Raises: Misconfigured when there is no key for it."""
    access = settings.lake_access()
    secret = access.secret_access_key.get_secret_value()
    return Lake(Access(access.endpoint, access.access_key_id, secret))


@cache
def read_code(root: Path) -> Mapping[str, str]:
    """`code_commit` (40 hex, empty outside git), `code_clean` and `lock` (SHA-256 of the lock)."""
    commit = _run_git(root, "rev-parse", "HEAD")
    changes = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    lock = root / _LOCK
    return {
        "code_commit": commit or "",
        "code_clean": str(bool(commit) and changes == "").lower(),
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
    }


@lru_cache(maxsize=4)
def _open_run(reference: str | None, run: str) -> Context:
    return _open_with_code(reference, _describe_flow_run(run))


def _open_with_code(reference: str | None, orchestrator: Mapping[str, str]) -> Context:
    context = open_context(reference)
    code = read_code(context.settings.root)
    return replace(context, origin=Provenance(code=code, orchestrator=orchestrator))


def _describe_flow_run(run: str) -> dict[str, str]:
    from prefect.runtime import deployment, flow_run

    found = {
        "prefect_flow_run_id": run,
        "prefect_flow_run": flow_run.get_name() or "",
        "prefect_deployment": deployment.get_name() or "",
    }
    return {name: value for name, value in found.items() if value}


def _run_git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _find_pin(lake: Lake, repository: str, ref: str) -> Pin:
    try:
        # Such a text cannot be a ref of lakeFS's, and some versions answer 500 when asked.
        if moments.is_no_ref(ref):
            raise NotFound(f"{ref!r} is no ref.")
        return lake.pin(repository, ref)
    except (NotFound, Refused) as error:
        if repository not in lake.fs.repositories():
            raise NotFound(
                f"The lake at {lake.access.endpoint} has no repository {repository}.",
                remedy="The first run of a stage makes it: start with `headrace demo`.",
                code="lake.repository_missing",
            ) from error
        if (pin := moments.meant(lake, repository, ref)) is not None:
            return pin
        raise NotFound(
            f"{repository} has no branch, tag or commit {ref!r}.",
            remedy="`headrace data branch` and `headrace data log` print those there are.",
            code="lake.ref_missing",
        ) from error
