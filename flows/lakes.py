"""The lake and the pipeline that the settings name, opened without Prefect."""

import sys
from dataclasses import dataclass

from flows.origin import code
from flows.pipeline import Pipeline, load_pipeline
from flows.settings import Settings
from storage.errors import NotFound, Refused
from storage.lake import MAIN, Lake, Pin
from storage.lake.client import Access
from storage.runs import Provenance


@dataclass(frozen=True, slots=True)
class Opened:
    """One pipeline in its lake, as a command needs it."""

    settings: Settings
    lake: Lake
    pipeline: Pipeline

    @property
    def repository(self) -> str:
        """The repository of the pipeline's data."""
        return self.pipeline.repository

    def pin(self, ref: str = MAIN) -> Pin:
        """The commit of the data that a ref, a moment or a table's version names.

        Raises: NotFound, saying what there is.
        """
        return _pin(self.lake, self.repository, ref)

    def releases(self) -> Pin:
        """The releases repository as it stands now. Raises NotFound."""
        return _pin(self.lake, self.pipeline.releases, MAIN)

    def by(self, command: str, actor: str) -> Provenance:
        """This code, started by a person's command."""
        return Provenance(
            code=code(self.settings.root), orchestrator={"command": command, "actor": actor}
        )


def open_lake(settings: Settings) -> Lake:
    """The lake that the settings name. Raises Misconfigured when there is no key for it."""
    access = settings.lake_access()
    secret = access.secret_access_key.get_secret_value()
    return Lake(Access(access.endpoint, access.access_key_id, secret))


def load_definition(reference: str | None = None) -> tuple[Settings, Pipeline]:
    """The settings, and the pipeline that is named, or their own.

    Raises: Misconfigured for settings that cannot be used or a pipeline that cannot be loaded.
    """
    settings = Settings.load()
    if (root := str(settings.root)) not in sys.path:
        # A console script cannot import from the project's folder by itself.
        sys.path.append(root)
    return settings, load_pipeline(reference or settings.pipeline)


def open_pipeline(reference: str | None = None) -> Opened:
    """That pipeline in its lake; nothing is asked of the lake yet. Raises Misconfigured."""
    settings, definition = load_definition(reference)
    return Opened(settings, open_lake(settings), definition)


def _pin(lake: Lake, repository: str, ref: str) -> Pin:
    from storage.versions import moments

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
            ) from error
        if (pin := moments.meant(lake, repository, ref)) is not None:
            return pin
        raise NotFound(
            f"{repository} has no branch, tag or commit {ref!r}.",
            remedy="`headrace data branch` and `headrace data log` print those there are.",
        ) from error
