"""What every stage needs before its first step: settings, the lake, the pipeline, its origin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import polars as pl
from prefect.runtime import deployment, flow_run

from flows.lakes import open_lake
from flows.origin import code
from flows.pipeline import Pipeline, load_pipeline
from flows.settings import Settings
from storage import tables
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.runs import Outcome, Provenance, Run, commit_once


@cache
def open_stage(pipeline: str | None = None) -> "Stage":
    """Read the environment, once a process. Raises Misconfigured, Unavailable or Forbidden.

    Tasks call it too, instead of taking it as a parameter: it holds the lake's secret.
    """
    settings = Settings.load()
    definition = load_pipeline(pipeline or settings.pipeline)
    lake = open_lake(settings)
    lake.create_pipeline(definition.name)
    return Stage(settings, lake, definition)


@dataclass(frozen=True, slots=True)
class Stage:
    """The surroundings of one flow run."""

    settings: Settings
    lake: Lake
    pipeline: Pipeline

    @property
    def by(self) -> Provenance:
        """This code, in this flow run."""
        return Provenance(code=code(self.settings.root), orchestrator=_orchestrator())

    def frames(self, pin: Pin) -> dict[str, pl.LazyFrame]:
        """The pipeline's datasets at the pin, lazily. Raises NotFound for one not delivered yet."""
        return {d.name: tables.scan(self.lake, pin, d.name) for d in self.pipeline.datasets}

    def merge(
        self,
        stage: str,
        run_id: str,
        body: Callable[[Run], None],
        *,
        inputs: Mapping[str, Pin],
        on: str,
    ) -> Outcome:
        """Commit this run once to the pipeline's data, with its record. Raises as `commit_once`."""
        return commit_once(
            self.lake,
            self.pipeline.repository,
            stage=stage,
            run_id=run_id,
            body=body,
            inputs=inputs,
            on=on,
            by=self.by,
        )

    def scan(self, pin: Pin, table: str) -> pl.LazyFrame | None:
        """The table at the pin, or None if nothing was written to it yet."""
        try:
            return tables.scan(self.lake, pin, table)
        except NotFound:
            return None


def _orchestrator() -> dict[str, str]:
    found = {
        "prefect_flow_run_id": flow_run.get_id() or "",
        "prefect_flow_run": flow_run.get_name() or "",
        "prefect_deployment": deployment.get_name() or "",
    }
    return {name: value for name, value in found.items() if value}
